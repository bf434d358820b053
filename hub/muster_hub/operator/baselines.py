"""`muster baseline`: bin training data into the file a bundle carries. Needs no hub."""

import csv
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from muster_hub.operator import output
from muster_hub.operator.failures import Exit, OperatorError
from muster_hub.operator.output import Json
from muster_protocol import baseline, features
from muster_protocol.errors import ProtocolError

app = typer.Typer(help="Training distributions to compare with.", no_args_is_help=True)

Tensors = dict[str, NDArray[Any]]


@app.command("fit")
def fit(
    data: Annotated[Path, typer.Argument(help="Training data: .csv with a header, or .npz.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("baseline.bin"),
    tensor: Annotated[
        str, typer.Option(help="The model input that a CSV's columns are, in order.")
    ] = "input",
    image: Annotated[
        list[str] | None,
        typer.Option(help="TENSOR=HEIGHTxWIDTH: watch an image's statistics, not its pixels."),
    ] = None,
    classifier: Annotated[
        str | None, typer.Option(help="The array of class scores: watch class and confidence.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bin each feature of the training data: 20 quantiles, two tails, two bins beyond."""
    try:
        tensors, columns = read(data, tensor)
        watched = watch(tensors, columns, image or [], classifier)
        fitted = baseline.fit(tensors, watched)
        encoded = baseline.encode(fitted)
    except ProtocolError as error:
        raise OperatorError(f"{data}: {error}", Exit.USAGE) from None
    try:
        out.write_bytes(encoded)
    except OSError as error:
        raise OperatorError(f"{out}: {error.strerror}", Exit.USAGE) from None
    told = [
        {"feature": feature.name, "kind": feature.kind, "rows": bins.rows, "nulls": bins.nulls,
         "mean": bins.mean, "std": bins.std}
        for feature, bins in zip(fitted.features, fitted.bins, strict=True)
    ]  # fmt: skip
    if as_json:
        output.show_json({"file": str(out), "sha256": fitted.digest, "features": told})
        return
    rows = (tuple(feature.values()) for feature in told)
    output.show(
        output.table(("FEATURE", "KIND", "ROWS", "NULLS", "MEAN", "STD"), rows, empty=""),
        f"{out}: {output.size(len(encoded))}",
    )


def read(data: Path, tensor: str) -> tuple[Tensors, dict[str, list[str]]]:
    """Arrays by tensor name, rows first, and the column names of those that have some."""
    try:
        if data.suffix == ".npz":
            with np.load(data) as archive:
                return {name: np.asarray(archive[name]) for name in archive.files}, {}
        if data.suffix == ".csv":
            header, table = _read_csv(data)
            return {tensor: table}, {tensor: header}
    except OSError as error:
        raise OperatorError(f"{data}: {error.strerror or error}", Exit.USAGE) from None
    except ValueError as error:
        raise OperatorError(f"{data}: {error}", Exit.USAGE) from None
    raise OperatorError(f"{data}: give a .csv or .npz file", Exit.USAGE)


def watch(
    tensors: Tensors, columns: dict[str, list[str]], images: list[str], classifier: str | None
) -> list[features.Feature]:
    """What to watch: images by their statistics, scores as classes, all else element by element."""
    sizes = dict(_image(text) for text in images)
    watched: list[features.Feature] = []
    for name in [*sizes, *filter(None, [classifier])]:
        if name not in tensors:
            raise OperatorError(
                f"no array {name!r} in the data, which has {', '.join(tensors)}", Exit.USAGE
            )
    for name, array in tensors.items():
        if name in sizes:
            height, width = sizes[name]
            watched += features.image(name, height=height, width=width)
        elif name == classifier:
            watched += features.classifier(name)
        else:
            width = int(np.prod(array.shape[1:], dtype=np.int64))
            watched += features.elements(name, columns.get(name, width))
    return watched


def _image(text: str) -> tuple[str, tuple[int, int]]:
    name, _, size = text.rpartition("=")
    height, _, width = size.partition("x")
    if not (name and height.isdecimal() and width.isdecimal()):
        raise OperatorError(f"image {text!r}: write it as TENSOR=HEIGHTxWIDTH", Exit.USAGE)
    return name, (int(height), int(width))


def _read_csv(data: Path) -> tuple[list[str], NDArray[np.float32]]:
    with data.open(newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        rows = []
        for row in lines:
            if len(row) != len(header):
                raise ValueError(
                    f"line {lines.line_num} has {len(row)} values, the header names {len(header)}"
                )
            rows.append([_number(text, lines.line_num) for text in row])
    if not rows:
        raise ValueError("no row of data below the header")
    return header, np.array(rows, dtype=np.float32)


def _number(text: str, line: int) -> float:
    """A missing value is a null of the feature, a word in a number's place is a mistake."""
    if not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"line {line}: {text!r} is not a number") from None
