"""`muster baseline`: bin training data into the file a bundle carries. Needs no hub."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from muster_client.commands.training_data import TrainingData, read
from muster_client.failures import Exit, OperatorError
from muster_client.terminal import output
from muster_client.terminal.output import Json
from muster_protocol.signals import baseline, features
from muster_protocol.wire.errors import ProtocolError

app = typer.Typer(help="Training distributions to compare with.", no_args_is_help=True)


@app.command("fit")
def fit(
    data: Annotated[
        Path, typer.Argument(help="Training data: .csv with a header, .parquet or .npz.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("baseline.bin"),
    tensor: Annotated[
        str, typer.Option(help="The model input that a table's columns are, in order.")
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
        training = read(data, tensor)
        watched = watch(training, image or [], classifier)
        fitted = baseline.fit(training.tensors, watched)
        encoded = baseline.encode(fitted)
    except ProtocolError as error:
        raise OperatorError(f"{data}: {error}", Exit.USAGE) from None
    try:
        out.write_bytes(encoded)
    except OSError as error:
        raise OperatorError(f"{out}: {error.strerror}", Exit.USAGE) from None
    fitted_features = [
        {"feature": feature.name, "kind": feature.kind, "rows": bins.rows, "nulls": bins.nulls,
         "mean": bins.mean, "std": bins.std}
        for feature, bins in zip(fitted.features, fitted.bins, strict=True)
    ]  # fmt: skip
    if as_json:
        output.show_json({"file": str(out), "sha256": fitted.digest, "features": fitted_features})
        return
    rows = (tuple(feature.values()) for feature in fitted_features)
    output.show(
        output.table(("FEATURE", "KIND", "ROWS", "NULLS", "MEAN", "STD"), rows, empty=""),
        f"{out}: {output.size(len(encoded))}",
    )


def watch(
    training: TrainingData, images: list[str], classifier: str | None
) -> list[features.Feature]:
    """What to watch: images by their statistics, scores as classes, all else element by element."""
    tensors = training.tensors
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
        elif name in training.columns:
            watched += [
                features.Feature(column, features.Element(name, index), kind)
                for index, (column, kind) in enumerate(training.columns[name])
            ]
        else:
            width = int(np.prod(array.shape[1:], dtype=np.int64))
            watched += features.elements(name, width)
    return watched


def _image(text: str) -> tuple[str, tuple[int, int]]:
    name, _, size = text.rpartition("=")
    height, _, width = size.partition("x")
    if not (name and height.isdecimal() and width.isdecimal()):
        raise OperatorError(f"image {text!r}: write it as TENSOR=HEIGHTxWIDTH", Exit.USAGE)
    return name, (int(height), int(width))
