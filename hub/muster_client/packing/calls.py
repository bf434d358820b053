"""Packing as commands, scripts and notebooks call it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster_client.failures import Lacking
from muster_client.packing.options import plain_name, settled
from muster_protocol.wire.manifest import Lineage

if TYPE_CHECKING:
    from muster_client.packing.packed import Packed


def pack(
    model: str | Path,
    data: Any = None,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    origin: Lineage | None = None,
    **options: Any,
) -> "Packed":
    """Make a bundle of a model file, as `muster model pack` does.

    ``data`` is the training data: a file, a pandas or Polars data frame, or arrays by input name.
    ``out`` is the bundle's folder (by default NAME-VERSION here); ``options`` are those of the
    command, with underscores: ``labels="fault"``, ``classes=["ok", "worn"]``. ``origin`` is what
    is known of where the model comes from. What was inferred is in the answer, and what a person
    should look at in its ``advice``. Raises OperatorError.

    with muster_client.Hub.from_profile() as hub:
        hub.push(muster_client.pack("pump.onnx", frame, labels="fault").folder)
    """
    path = Path(model)
    said = dict(options)
    if isinstance(data, str | Path):
        said["data"], data = str(data), None
    chosen = settled(path, said, Path(config) if config is not None else None)
    try:
        from muster_client.packing.pack import make  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("muster_"):
            raise
        raise Lacking("packing a model", missing, "pack") from None
    folder = f"{chosen.name or plain_name(path.stem)}-{chosen.version or '1'}"
    return make(path, Path(folder if out is None else out), chosen, data, origin)
