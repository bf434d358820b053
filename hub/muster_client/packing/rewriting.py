"""A model's file changed where it says too little: what it computes stays the same."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from muster_client.packing.advice import Notes
from muster_client.packing.packed import ModelFile
from muster_protocol.wire.tensors import Tensor


def placed(model: ModelFile, room: Path) -> Path:
    """The model without its ZipMap as a file, its side files beside it."""
    assert model.rewritten is not None
    path = room / "model.onnx"
    path.write_bytes(model.rewritten)
    for side in model.side_files:
        shutil.copyfile(side, room / side.name)
    return path


def typed(file: Path, outputs: Mapping[str, Tensor], room: Path, notes: Notes) -> Path:
    """The model with the dimensions that its outputs were seen to have."""
    import onnx  # noqa: PLC0415 - an extra

    model = onnx.load(str(file), load_external_data=False)
    for value in model.graph.output:
        tensor = outputs.get(value.name)
        if tensor is None:
            continue
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for place, size in enumerate(tensor.shape):
            dim = shape.dim.add()
            if size == -1:
                dim.dim_param = f"dim_{place}" if place else "batch"
            else:
                dim.dim_value = size
    names = ", ".join(repr(name) for name in outputs)
    notes.add(
        "untyped",
        f"The model says nothing of the dimensions of {names}: those seen in its answers were "
        "written into it (onnx.shape_inference.infer_shapes may do the same to your file).",
    )
    path = room / "typed.onnx"
    path.write_bytes(model.SerializeToString())
    return path
