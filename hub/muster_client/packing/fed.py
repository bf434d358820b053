"""What feeds fill a model's input with, from a file of the manifest's own fields."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from muster_client.failures import WrongUsage
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    features: tuple[InputFeature, ...]
    window: InputWindow | UnsetType = UNSET
    quality: InputQuality | UnsetType = UNSET


def fields_of(file: str) -> dict[str, Any]:
    """Fields of a manifest of format 2; none where no file is named. Raises WrongUsage."""
    if not file:
        return {}
    try:
        found = msgspec.json.decode(Path(file).read_bytes(), type=_File)
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{file}: {error}") from None
    return {
        "features": found.features,
        "window": found.window,
        "quality": found.quality,
        "format": 2,
    }
