"""`muster baseline`: what training data looks like, as the file a bundle carries. Needs no hub."""

from pathlib import Path
from typing import Annotated, Any

import typer

from muster_client.terminal import output
from muster_client.terminal.output import Json
from muster_client.training.fitting import WINDOW_SECONDS, fit_file
from muster_client.training.model_monitor import import_statistics
from muster_protocol.signals import foresight
from muster_protocol.signals.baseline import Baseline

app = typer.Typer(help="What training data looked like, to compare with.", no_args_is_help=True)


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
    time: Annotated[
        str, typer.Option(help="The column with each row's time (ISO 8601 or seconds since 1970).")
    ] = "",
    window_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows that a device sees in one window.")
    ] = None,
    window_seconds: Annotated[
        float, typer.Option(min=1, help="How long a device's windows are.")
    ] = WINDOW_SECONDS,
    context: Annotated[
        str, typer.Option(help="The column that tells recipe, mode or product.")
    ] = "",
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Rows are in no order: alerts will be worse.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Learn what is normal from training rows in their order, and say how good alerts will be.

    Each feature is binned (20 quantiles, two tails, two bins beyond). Rows in order of time also
    show how a device's windows differ when nothing is wrong.
    """
    fitted, note = fit_file(
        data, out, tensor=tensor, images=image or (), classifier=classifier, time=time,
        window_rows=window_rows, window_seconds=window_seconds, context=context, shuffled=shuffled,
    )  # fmt: skip
    _show(fitted, out, note, as_json=as_json)


@app.command("import")
def import_file(
    statistics: Annotated[
        Path, typer.Argument(help="statistics.json, as SageMaker Model Monitor writes it.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("baseline.bin"),
    constraints: Annotated[
        Path | None, typer.Option(help="Its constraints.json, to be checked against.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Columns that the model takes, in its order: A,B,…; by default all.")
    ] = "",
    tensor: Annotated[str, typer.Option(help="The model input that they are.")] = "input",
    as_json: Json = False,
) -> None:
    """Make a baseline of what another tool noted of the training data.

    It tells distributions only: of how rows follow each other in time it knows nothing. Where the
    data are still there, `fit` learns more from them.
    """
    fitted, note = import_statistics(
        statistics, out, constraints=constraints, tensor=tensor,
        columns=[name.strip() for name in columns.split(",") if name.strip()],
    )  # fmt: skip
    _show(fitted, out, note, as_json=as_json)


def _show(fitted: Baseline, out: Path, note: str, *, as_json: bool) -> None:
    rows = _rows(fitted)
    if as_json:
        known = {"file": str(out), "sha256": fitted.digest, "features": rows}
        output.show_json(known | {"in_time": _in_time(fitted), "note": note})
        return
    heads = ("FEATURE", "KIND", "ROWS", "NULLS", "MEAN", "STD", "FOUND FROM", "WANDERS")
    output.show(
        output.table(heads, (_cells(row) for row in rows), empty=""),
        *_learnt(fitted),
        *([f"note: {note}"] if note else []),
        f"{out}: {output.size(out.stat().st_size)}",
    )


def _rows(fitted: Baseline) -> list[dict[str, Any]]:
    outlooks = {outlook.feature: outlook for outlook in foresight.outlooks(fitted)}
    rows = []
    for feature, bins in zip(fitted.features, fitted.bins, strict=True):
        outlook = outlooks.get(feature.name)
        rows.append(
            {"feature": feature.name, "kind": feature.kind, "rows": bins.rows, "nulls": bins.nulls,
             "mean": bins.mean, "std": bins.std,
             "found_from": None if outlook is None else outlook.shift,
             "wanders": None if outlook is None else outlook.wanders}
        )  # fmt: skip
    return rows


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    cells = dict(row)
    for name in ("found_from", "wanders"):
        cells[name] = "" if row[name] is None else f"{row[name]:.2g} σ"
    return tuple(cells.values())


def _in_time(fitted: Baseline) -> dict[str, Any] | None:
    if fitted.normal is None:
        return None
    file = fitted.normal.file
    return {
        "windows": file.windows,
        "window_rows": file.rows,
        "window_seconds": file.window_seconds,
        "seasonal": fitted.normal.profile is not None,
        "regimes": sorted(fitted.normal.regimes),
    }


def _learnt(fitted: Baseline) -> list[str]:
    """What the rows' order taught, in words."""
    learnt = _in_time(fitted)
    if learnt is None:
        return []
    season = "yes" if learnt["seasonal"] else "no (needs --time and four weeks)"
    windows = f"{learnt['windows']} windows of {learnt['window_rows']} rows"
    regimes = len(learnt["regimes"]) or "none (--context)"
    within = f"{foresight.WINDOWS} windows in about half of the cases, a smaller one later"
    wandering = (
        f"{row['feature']} wanders: the mean of a dozen windows strays by {row['wanders']:.2g} σ "
        "without a fault"
        for row in _rows(fitted)
        if row["wanders"] is not None
    )
    return [
        f"learnt from {windows}; the usual week: {season}; regimes: {regimes}",
        f"FOUND FROM: a lasting shift of so many standard deviations shows within {within}",
        *wandering,
    ]
