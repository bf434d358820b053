"""Training pictures of a folder as rows: prepared as the manifest says, as a device does it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muster_client.failures import Lacking, WrongUsage
from muster_client.packing.advice import Notes
from muster_protocol.images.decoding import SUFFIXES, ImageError, decoded
from muster_protocol.images.preparing import prepared
from muster_protocol.wire import imaging
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.imaging import InputImage
from muster_protocol.wire.tensors import Tensor

PICTURES_BYTES_MAX = 2 << 30
"""Of pictures as the model takes them, together."""


@dataclass(frozen=True)
class Pictures:
    """Prepared pictures [pictures, …], and the folder that each lay in, if they lay in folders."""

    rows: NDArray[Any]
    labels: list[str] | None


def read(folder: Path, image: InputImage, tensor: Tensor, rows_max: int, notes: Notes) -> Pictures:
    """The pictures of a folder, or of folders in it that are named as their classes; in the order
    of their names, which is that of time. Raises WrongUsage that names a picture at fault.
    """
    try:
        imaging.pictured_input(image, [tensor], str(folder))
    except ProtocolError as error:
        raise WrongUsage(str(error)) from None
    paths = sorted(
        (each for each in (*folder.glob("*"), *folder.glob("*/*")) if _is_picture(each)),
        key=lambda each: (each.name, each.parent.name),
    )
    if not paths:
        known = ", ".join(sorted(SUFFIXES))
        raise WrongUsage(f"{folder}: no picture ({known}) in it or in folders in it")
    inside = {path.parent != folder for path in paths}
    if len(inside) > 1:
        raise WrongUsage(
            f"{folder}: some pictures lie in it and some in folders in it: put each into the "
            "folder of its class, or none"
        )
    kept = paths[-rows_max:]
    if len(kept) < len(paths):
        notes.add("rows", f"Of {len(paths)} pictures the last {len(kept)} are used: see --rows.")
    return Pictures(
        _prepared(kept, image, tensor),
        [path.parent.name for path in kept] if True in inside else None,
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _prepared(paths: list[Path], image: InputImage, tensor: Tensor) -> NDArray[Any]:
    first = _picture(paths[0], image, tensor)
    if first.nbytes * len(paths) > PICTURES_BYTES_MAX:
        raise WrongUsage(
            f"{len(paths)} pictures take {first.nbytes * len(paths) >> 20} MiB as the model takes "
            f"them, at most {PICTURES_BYTES_MAX >> 20}: use fewer with --rows"
        )
    rows = np.empty((len(paths), *first.shape), first.dtype)
    rows[0] = first
    for place, path in enumerate(paths[1:], 1):
        rows[place] = _picture(path, image, tensor)
    return rows


def _picture(path: Path, image: InputImage, tensor: Tensor) -> NDArray[Any]:
    try:
        return prepared(decoded(path.read_bytes()), image, tensor)
    except (ImageError, OSError) as error:
        raise WrongUsage(f"{path}: {error}") from None
    except ModuleNotFoundError as error:
        raise Lacking("reading pictures", error.name or "PIL", "images") from None
