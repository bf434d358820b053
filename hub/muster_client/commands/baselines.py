"""`muster baseline`: bin training data into the file a bundle carries. Needs no hub."""

from pathlib import Path
from typing import Annotated

import typer

from muster_client.terminal import output
from muster_client.terminal.output import Json
from muster_client.training.fitting import fit_file

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
    fitted = fit_file(data, out, tensor=tensor, images=image or (), classifier=classifier)
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
        f"{out}: {output.size(out.stat().st_size)}",
    )
