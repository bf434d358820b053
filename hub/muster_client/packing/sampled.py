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
from muster_protocol.wire.sampling import Blur, Privacy, RowsPerDay, SampledFeature, SamplingLimits
from muster_protocol.wire.tensors import Label, Tensor

_ELEMENT = re.compile(r"(?P<tensor>.*)\[(?P<place>\d{1,6})\]")


GridText = Annotated[str, Meta(pattern=r"^[1-9]\d{0,2}x[1-9]\d{0,2}\Z")]


class SamplingFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML file: features are columns of the data, inputs as a whole, or ``INPUT[NUMBER]``."""

    features: Annotated[dict[Label, Privacy], Meta(min_length=1, max_length=limits.FEATURES_MAX)]
    blur: Annotated[dict[Label, GridText], Meta(max_length=limits.FEATURES_MAX)] = {}
    """Of features that are images: ROWSxCOLUMNS of the grid that they are blurred to."""
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
    features = {
        name: _feature(path, name, privacy, tensors, columns)
        for name, privacy in said.features.items()
    }
    for name, grid in said.blur.items():
        if name not in features:
            raise WrongUsage(f"{path}: blur.{name}: it isn't among the features")
        features[name] = _with_grid(path, name, features[name], grid, tensors)
    return SamplingLimits(
        features=features,
        rows_per_day=said.rows_per_day,
        rows_max=said.rows_max,
        answers=said.answers,
    )


def _with_grid(
    path: Path, name: str, feature: SampledFeature, grid: str, tensors: Sequence[Tensor]
) -> SampledFeature:
    """The feature with its grid; height and width are the two largest of its dimensions."""
    shape = next(t.element_shape for t in tensors if t.name == feature.tensor)
    axes = sorted(sorted(range(len(shape)), key=lambda axis: -shape[axis])[:2])
    if len(axes) < 2 or feature.first or feature.count:
        raise WrongUsage(f"{path}: blur.{name}: it is no image, which has a height and a width")
    rows, _, columns = grid.partition("x")
    try:
        blur = msgspec.convert(
            {"rows": int(rows), "columns": int(columns), "height_axis": axes[0],
             "width_axis": axes[1]}, Blur,
        )  # fmt: skip
    except msgspec.ValidationError as error:
        raise WrongUsage(f"{path}: blur.{name}: {error}") from None
    return msgspec.structs.replace(feature, blur=blur)


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
