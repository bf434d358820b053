"""What may be sampled of a version on devices, as a person says it; signed with the bundle."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from muster_client.failures import WrongUsage
from muster_protocol.wire import limits
from muster_protocol.wire.sampling import Privacy, RowsPerDay, SampledFeature, SamplingLimits
from muster_protocol.wire.tensors import Label, Tensor

_ELEMENT = re.compile(r"(?P<tensor>.*)\[(?P<place>\d{1,6})\]")


class SamplingFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML file: features are columns of the data, inputs as a whole, or ``INPUT[NUMBER]``."""

    features: Annotated[dict[Label, Privacy], Meta(min_length=1, max_length=limits.FEATURES_MAX)]
    rows_per_day: RowsPerDay
    rows_max: Annotated[int, Meta(ge=1, le=limits.SAMPLES_MAX)]
    answers: bool = False


def read(
    path: Path, tensors: Sequence[Tensor], columns: Mapping[str, Sequence[str]]
) -> SamplingLimits:
    """The limits of a version with these inputs, of which some are ``columns`` of the data.

    Raises WrongUsage that names the key at fault.
    """
    try:
        said = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), SamplingFile)
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{path}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise WrongUsage(f"{path}: {str(error).replace('$.', '')}") from None
    return SamplingLimits(
        features={
            name: _feature(path, name, privacy, tensors, columns)
            for name, privacy in said.features.items()
        },
        rows_per_day=said.rows_per_day,
        rows_max=said.rows_max,
        answers=said.answers,
    )


def _feature(
    path: Path,
    name: str,
    privacy: Privacy,
    tensors: Sequence[Tensor],
    columns: Mapping[str, Sequence[str]],
) -> SampledFeature:
    for tensor, named in columns.items():
        if name in named:
            return SampledFeature(tensor, list(named).index(name), 1, privacy)
    sizes = {tensor.name: prod(tensor.element_shape) for tensor in tensors}
    if name in sizes:
        return SampledFeature(name, privacy=privacy)
    element = _ELEMENT.fullmatch(name)
    if element is not None and int(element["place"]) < sizes.get(element["tensor"], 0):
        return SampledFeature(element["tensor"], int(element["place"]), 1, privacy)
    known = [column for named in columns.values() for column in named] or list(sizes)
    raise WrongUsage(
        f"{path}: features.{name}: neither a column of the data nor an input; there are "
        f"{', '.join(known[:12])}"
    )
