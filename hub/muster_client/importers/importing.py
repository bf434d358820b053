"""One call from a source's name to a bundle's folder."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from muster_client.failures import OperatorError, WrongUsage
from muster_client.importers.base import Found, Importer
from muster_client.importers.download import digest_of
from muster_client.importers.registry import importer_of
from muster_client.packing.calls import pack
from muster_client.packing.options import plain_name

if TYPE_CHECKING:
    from muster_client.packing.packed import Packed

KEPT_SECONDS = 7 * 86_400.0
"""What was fetched of a model whose import didn't end is kept so long."""


def find(uri: str) -> Found:
    """What ``SCHEME:PLACE`` stands for now. Raises OperatorError."""
    importer, place = importer_of(uri)
    return importer.find(place)


def import_model(
    uri: str,
    data: Any = None,
    *,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    sha256: str = "",
    found: Found | None = None,
    **options: Any,
) -> "Packed":
    """Make a bundle of a model that another tool keeps, as `muster model import` does.

    ``uri`` is ``SCHEME:PLACE``, such as ``mlflow:models:/pump@champion``. Name, version, lineage,
    and as far as the source says them sample, columns and classes are the source's; ``options``,
    those of ``muster_client.pack``, say otherwise. ``found`` is what ``find`` gave. With ``sha256``
    another model's file is refused. What was fetched stays in ``cache`` until the bundle is made,
    so that the next try goes on. Raises OperatorError.
    """
    importer, place = importer_of(uri)
    found = found if found is not None else importer.find(place)
    said = {name: value for name, value in options.items() if value}
    said.setdefault("name", plain_name(found.name))
    said.setdefault("version", found.version)
    parent = (
        Path(cache) if cache is not None else platformdirs.user_cache_path("muster") / "imports"
    )
    with _room(parent, found) as room:
        return _packed(importer, found, room, data, said, out, sha256)


def _packed(
    importer: Importer, found: Found, room: Path, data: Any, said: dict[str, Any],
    out: str | Path | None, sha256: str,
) -> "Packed":  # fmt: skip
    brought = importer.bring(found, room)
    if sha256 and digest_of(brought.model) != sha256.lower():
        raise OperatorError(
            f"{brought.model.name} of {found.identity}: its SHA-256 is "
            f"{digest_of(brought.model)}, not {sha256}"
        )
    folder = out if out is not None else f"{said['name']}-{said['version'] or '1'}"
    config = said.pop("config", None)
    return pack(
        brought.model,
        data,
        out=folder,
        config=config,
        origin=brought.origin,
        **(brought.options | said),
    )


@contextmanager
def _room(parent: Path, found: Found) -> Iterator[Path]:
    """A folder for what is fetched, this import's alone; removed once all went well."""
    import fcntl  # noqa: PLC0415 - not on every system that operates a hub

    room = parent / hashlib.sha256(found.identity.encode()).hexdigest()[:24]
    try:
        room.mkdir(parents=True, exist_ok=True)
        _forget(parent, room)
        lock = (parent / f"{room.name}.lock").open("w")
    except OSError as error:
        raise WrongUsage(f"{room}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OperatorError(f"{found.identity} is being imported already") from None
        yield room
        shutil.rmtree(room, ignore_errors=True)
        Path(lock.name).unlink(missing_ok=True)


def _forget(parent: Path, but: Path) -> None:
    oldest = time.time() - KEPT_SECONDS
    for room in parent.iterdir():
        if room.is_dir() and room != but and room.stat().st_mtime < oldest:
            shutil.rmtree(room, ignore_errors=True)
