"""The importers there are, one file each."""

from typing import Literal, assert_never

from muster_client.failures import WrongUsage
from muster_client.importers import folder, huggingface, mlflow, sagemaker, triton, zoo
from muster_client.importers.base import Importer
from muster_protocol.registry import Registry, UnknownWordError

Scheme = Literal["folder", "mlflow", "huggingface", "sagemaker", "triton", "zoo"]


def _importer_of(scheme: Scheme) -> Importer:
    match scheme:
        case "folder":
            return folder.IMPORTER
        case "mlflow":
            return mlflow.IMPORTER
        case "huggingface":
            return huggingface.IMPORTER
        case "sagemaker":
            return sagemaker.IMPORTER
        case "triton":
            return triton.IMPORTER
        case "zoo":
            return zoo.IMPORTER
        case _:
            assert_never(scheme)


IMPORTERS = Registry[Scheme, Importer]("importer", Scheme, _importer_of)


def importer_of(uri: str) -> tuple[Importer, str]:
    """The importer of ``SCHEME:PLACE``, and the place. Raises WrongUsage with the list."""
    scheme, colon, place = uri.partition(":")
    if not (colon and place):
        raise WrongUsage(f"{uri!r}: write SCHEME:PLACE, one of {forms()}")
    try:
        return IMPORTERS.find(scheme), place
    except UnknownWordError as error:
        raise WrongUsage(f"{error}. Write one of {forms()}") from None


def forms() -> str:
    """How each kind of source is written."""
    return "; ".join(f"{scheme}:{importer.form}" for scheme, importer in IMPORTERS.items())
