"""A model in the layout of the ONNX Model Zoo: its test data become the golden vectors' inputs."""

import re
from pathlib import Path
from typing import Any

from muster_client.failures import Lacking, WrongUsage
from muster_client.importers.base import Brought, Found, lineage
from muster_client.importers.download import digest_of
from muster_client.importers.folder import only_model
from muster_client.packing.model_file import input_names

SETS_MAX = 64
_INPUT = re.compile(r"input_(\d+)\.pb")


class ZooImporter:
    """A folder with a model and test_data_set_0, test_data_set_1, … beside it."""

    form = "PATH, a folder with model.onnx and test_data_set_* in it"

    def find(self, place: str) -> Found:
        model = only_model(Path(place))
        digest = digest_of(model)
        name = model.parent.name if model.stem == "model" else model.stem
        origin = lineage(source=f"{model.name}, ONNX Model Zoo layout (SHA-256 {digest[:16]}…)")
        return Found(digest, name, origin=origin, detail=model)

    def bring(self, found: Found, room: Path) -> Brought:
        model: Path = found.detail
        arrays = _test_inputs(model)
        if not arrays:
            raise WrongUsage(
                f"{model.parent}: no test_data_set_*/input_0.pb in it; folder:{model.parent} "
                "takes it without"
            )
        sample = room / "sample.npz"
        import numpy as np  # noqa: PLC0415 - an extra

        np.savez(sample, **arrays)
        return Brought(model, found.origin, {"sample": str(sample)})


IMPORTER = ZooImporter()


def _test_inputs(model: Path) -> dict[str, Any]:
    """Inputs by name, the sets' rows below each other. Raises WrongUsage, Lacking."""
    try:
        import numpy as np  # noqa: PLC0415 - an extra
        from onnx import TensorProto, numpy_helper  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise Lacking("reading a model zoo", error.name or "onnx", "pack") from None
    names = input_names(model)
    rows: dict[str, list[Any]] = {}
    for folder in sorted(model.parent.glob("test_data_set_*"))[:SETS_MAX]:
        for path in sorted(folder.glob("input_*.pb")):
            number = _INPUT.fullmatch(path.name)
            if number is None or int(number[1]) >= len(names):
                raise WrongUsage(f"{path}: the model has {len(names)} inputs")
            tensor = TensorProto()
            try:
                tensor.ParseFromString(path.read_bytes())
                array = numpy_helper.to_array(tensor)
            except Exception as error:
                raise WrongUsage(f"{path}: no tensor of ONNX: {error}") from None
            rows.setdefault(tensor.name or names[int(number[1])], []).append(array)
    try:
        return {name: np.concatenate(arrays) for name, arrays in rows.items()}
    except ValueError:
        # Sets of different sizes: the first alone.
        return {name: arrays[0] for name, arrays in rows.items()}
