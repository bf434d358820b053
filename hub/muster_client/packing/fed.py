"""What feeds fill a model's input with, from a file of the manifest's own fields."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from muster_client.failures import WrongUsage
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from muster_protocol.wire.imaging import InputImage


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    features: tuple[InputFeature, ...] | UnsetType = UNSET
    image: InputImage | UnsetType = UNSET
    window: InputWindow | UnsetType = UNSET
    quality: InputQuality | UnsetType = UNSET


def fields_of(file: str) -> dict[str, Any]:
    """Fields of a manifest of format 2; none where no file is named. Raises WrongUsage."""
    if not file:
        return {}
    found = _read(file)
    return {
        "features": found.features,
        "image": found.image,
        "window": found.window,
        "quality": found.quality,
        "format": 2,
    }


def image_of(file: str, pictures: str) -> InputImage:
    """How the pictures of a folder become the input. Raises WrongUsage where no file says it."""
    found = _read(file).image if file else UNSET
    if found is UNSET:
        raise WrongUsage(
            f"{pictures} is a folder of pictures: say how one becomes the model's input, by "
            '"image" in a file that --features names'
        )
    return found


def _read(file: str) -> _File:
    """Raises WrongUsage."""
    try:
        found = msgspec.json.decode(Path(file).read_bytes(), type=_File)
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{file}: {error}") from None
    if found.features is UNSET and found.image is UNSET:
        raise WrongUsage(f"{file}: neither 'features' nor 'image' is in it")
    return found
