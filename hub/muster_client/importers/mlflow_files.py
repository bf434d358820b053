"""What MLflow's files beside a model say: its flavour, signature and input example."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from muster_client.failures import WrongUsage

EXAMPLE_CSV = "muster-sample.csv"
EXAMPLE_NPZ = "muster-sample.npz"


@dataclass(frozen=True)
class MlModel:
    """An ``MLmodel`` file, as far as an import goes by it."""

    model: str
    """The ONNX file's path below the model's folder."""
    columns: tuple[str, ...] = ()
    """Names of the signature's columns; empty: it has none, or is of tensors."""
    shapes: dict[str, tuple[int, ...]] | None = None
    """Of the signature's tensors by name; -1: any size."""
    example: str = ""
    """The input example's path below the model's folder."""
    run_id: str = ""


def read_mlmodel(data: bytes, where: str) -> MlModel:
    """Parse an ``MLmodel`` file. Raises WrongUsage that says what to log in its place."""
    try:
        parsed = yaml.safe_load(data)
        flavors = parsed["flavors"]
        known = ", ".join(map(str, flavors))
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise WrongUsage(f"{where}: no MLmodel file that can be read") from None
    onnx = flavors.get("onnx") if isinstance(flavors, dict) else None
    if not isinstance(onnx, dict):
        raise WrongUsage(
            f"{where}: its flavours are {known}; devices run ONNX: log it with "
            "mlflow.onnx.log_model (skl2onnx, torch.onnx and tf2onnx convert)"
        )
    columns, shapes = _signature(parsed.get("signature"), where)
    example = parsed.get("saved_input_example_info")
    return MlModel(
        _plain(str(onnx.get("data") or "model.onnx"), where),
        columns,
        shapes,
        _plain(str(example["artifact_path"]), where)
        if isinstance(example, dict) and example.get("artifact_path")
        else "",
        str(parsed.get("run_id") or ""),
    )


def _plain(path: str, where: str) -> str:
    if not is_plain(path):
        raise WrongUsage(f"{where}: names a file {path!r} outside of the model's folder")
    return path


def is_plain(path: str) -> bool:
    """Whether a relative path stays in its folder, on every system."""
    parts = path.split("/")
    return all(part not in {"", ".", ".."} and part.isprintable() for part in parts) and not (
        {"\\", ":", "\0"} & set(path)
    )


def _signature(
    stored: Any, where: str
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]] | None]:
    """(Columns, shapes of tensors) of a signature's inputs."""
    if not isinstance(stored, dict) or not stored.get("inputs"):
        return (), None
    try:
        inputs = json.loads(stored["inputs"])
        if all(item.get("type") == "tensor" for item in inputs):
            shapes = {
                str(item["name"]): tuple(int(size) for size in item["tensor-spec"]["shape"])
                for item in inputs
                if item.get("name")
            }
            return (), shapes
        return tuple(str(item["name"]) for item in inputs if item.get("name")), None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WrongUsage(f"{where}: its signature can't be read") from None


def write_example(data: bytes, room: Path, where: str) -> Path:
    """Write an input example as a sample to pack with: a CSV of columns, or an .npz of arrays.

    Understands what MLflow writes: data frames (split, records), arrays and dictionaries of them.
    Raises WrongUsage.
    """
    try:
        parsed = json.loads(data)
    except ValueError:
        raise WrongUsage(f"{where}: no JSON") from None
    if isinstance(parsed, dict) and "dataframe_split" in parsed:
        parsed = parsed["dataframe_split"]
    if isinstance(parsed, dict) and {"columns", "data"} <= parsed.keys():
        return _table(parsed["columns"], parsed["data"], room)
    if isinstance(parsed, list) and parsed and all(isinstance(row, dict) for row in parsed):
        return _table([*parsed[0]], [[row.get(n) for n in parsed[0]] for row in parsed], room)
    if isinstance(parsed, dict) and parsed.keys() <= {"inputs", "instances", "params"}:
        parsed = parsed.get("inputs", parsed.get("instances"))
    return _arrays(parsed, room, where)


def _table(columns: Sequence[Any], rows: Sequence[Sequence[Any]], room: Path) -> Path:
    path = room / EXAMPLE_CSV
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def _arrays(parsed: Any, room: Path, where: str) -> Path:
    import numpy as np  # noqa: PLC0415 - an extra

    named = parsed if isinstance(parsed, dict) else {"input": parsed}
    try:
        arrays = {str(name): np.asarray(value) for name, value in named.items()}
    except ValueError:
        arrays = {}
    if not arrays or any(array.dtype.kind == "O" for array in arrays.values()):
        raise WrongUsage(f"{where}: neither a table nor arrays: give --sample or --data")
    path = room / EXAMPLE_NPZ
    np.savez(path, **arrays)  # type: ignore[arg-type]  # by keywords
    return path
