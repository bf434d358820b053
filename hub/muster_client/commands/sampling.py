"""`muster sampling`: rows of raw data that devices send because release keys let them."""

import csv
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import typer
from rich.text import Text

from muster_client.failures import OperatorError, WrongUsage
from muster_client.resources.sampling import Privacy, SamplePolicy, Stratum
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.completing import ModelName
from muster_client.terminal.output import Csv, Json
from muster_client.training.label_file import read_labels

app = typer.Typer(
    help="Rows of raw data from devices, within what release keys signed.",
    no_args_is_help=True,
)
Number = Annotated[int, typer.Argument(metavar="POLICY", min=1)]
STRATA = ("random", "low_confidence", "drifting", "by_class")
PRIVACY = ("plain", "blur", "hash")


@app.command("begin")
def begin(
    context: typer.Context,
    model: ModelName,
    version: str,
    *,
    feature: Annotated[
        list[str],
        typer.Option(help="NAME or NAME=hash; again for more. What isn't named is dropped."),
    ],
    rows_per_day: Annotated[int, typer.Option(min=1, help="On each device.")],
    strata: Annotated[
        str, typer.Option(help=f"Which rows, by commas: {', '.join(STRATA)}.")
    ] = "random",
    where: Annotated[str, typer.Option(help="Only devices with these labels.")] = "",
    days: Annotated[float, typer.Option(min=0.001, help="Until it ends by itself.")] = 7.0,
    answers: Annotated[bool, typer.Option("--answers", help="What it answered, too.")] = False,
    confidence_below: Annotated[
        float, typer.Option(min=0, max=1, help="Of low_confidence: the best score.")
    ] = 0.6,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    as_json: Json = False,
) -> None:
    """Ask devices that run a version for rows of what it sees, within what its release allows."""
    found = hub(context).sampling.begin(
        model,
        version,
        dict(map(_feature, feature)),
        rows_per_day=rows_per_day,
        strata=_strata(strata),
        where=where,
        days=days,
        answers=answers,
        confidence_below=confidence_below,
        reason=reason,
    )
    _show(found, as_json=as_json)


@app.command("list")
def list_policies(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show sampling policies, the newest first."""
    items = list(hub(context).sampling.list(limit))
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    rows = (
        (
            item["id"], item["model"], item["version"], item["selector"], _state(item),
            item["rows"], output.ago(item["created"]), item["reason"],
        )
        for item in items
    )  # fmt: skip
    headings = ("POLICY", "MODEL", "VERSION", "WHERE", "STATE", "SAMPLES", "BEGUN", "WHY")
    output.show(output.table(headings, rows, empty="Nothing was ever sampled."))


@app.command("show")
def show(context: typer.Context, policy: Number, *, as_json: Json = False) -> None:
    """Show one policy: what devices are asked for, and how much came."""
    _show(hub(context).sampling.show(policy), as_json=as_json)


@app.command("end")
def end(
    context: typer.Context,
    policy: Number,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Ask for no more rows. Devices delete what waits there; what came stays at the hub."""
    if not yes:
        asking.confirm(
            f"{_words(hub(context).sampling.show(policy))} ends: what devices have not sent yet is "
            "deleted there",
            yes=yes,
        )
    _show(hub(context).sampling.end(policy, reason=reason), as_json=as_json)


@app.command("samples")
def samples(
    context: typer.Context,
    policy: Number,
    *,
    limit: Annotated[int, typer.Option(min=1, help="The first so many.")] = 100,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the samples that came, without what they hold."""
    items = list(hub(context).sampling.samples(policy, limit))
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    rows = (
        (
            item["sha256"][:16], item["device"], item["stratum"], output.ago(item["taken"]),
            item["size_bytes"], item["label"],
        )
        for item in items
    )  # fmt: skip
    headings = ("SHA-256", "DEVICE", "STRATUM", "TAKEN", "BYTES", "LABEL")
    output.show(output.table(headings, rows, empty="No sample has come."))


@app.command("download")
def download(
    context: typer.Context,
    policy: Number,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="A .csv for training, else JSON Lines.")],
) -> None:
    """Write all samples with what they hold to a file."""
    data = hub(context).sampling.download(policy)
    try:
        if out.suffix == ".csv":
            asked = hub(context).sampling.show(policy)["asked"]["features"]
            _write_table(out, data, [*asked])
        else:
            out.write_bytes(data)
    except OSError as error:
        raise OperatorError(f"{out}: {error.strerror}") from None
    count = len(data.splitlines())
    output.show(f"{count} samples in {out}")


@app.command("label")
def label(
    context: typer.Context,
    policy: Number,
    file: Annotated[Path, typer.Argument(help="CSV with columns sha256 and label, or JSON Lines.")],
) -> None:
    """Say what the right answers to samples are."""
    done = hub(context).sampling.label(policy, read_labels(file))
    output.show(f"{done} samples have a label from {file}")


@app.command("forget")
def forget(context: typer.Context, policy: Number, *, yes: Yes = False) -> None:
    """End a policy and delete its samples, at the hub and on devices."""
    if not yes:
        asking.confirm(
            f"{_words(hub(context).sampling.show(policy))} ends, and its samples are deleted, here "
            "and on devices",
            yes=yes,
        )
    output.show(f"{hub(context).sampling.forget(policy)} samples deleted")


def _words(found: SamplePolicy) -> str:
    which = f"sampling policy {found['id']} of {found['model']} {found['version']}"
    return f"{which} ({found['rows']} samples)"


def _feature(text: str) -> tuple[str, Privacy]:
    name, _, privacy = text.rpartition("=") if "=" in text else (text, "", "plain")
    if privacy not in PRIVACY or not name:
        raise WrongUsage(f"--feature {text}: say NAME, NAME=plain, NAME=blur or NAME=hash")
    return name, cast("Privacy", privacy)


def _strata(text: str) -> list[Stratum]:
    found = [word.strip() for word in text.split(",") if word.strip()]
    for word in found:
        if word not in STRATA:
            raise WrongUsage(f"--strata {word}: choose of {', '.join(STRATA)}")
    return cast("list[Stratum]", found)


def _write_table(out: Path, data: bytes, asked: Sequence[str]) -> None:
    """One column a feature in the order in which they were asked for, as a training has its own,
    then the label and where each row is from. Rows of a device stand together in order of time: so
    a baseline's windows are as a device has them."""
    found: list[dict[str, Any]] = [msgspec.json.decode(line) for line in data.splitlines()]
    found.sort(key=lambda sample: (sample["device"], sample["taken"]))
    seen = dict.fromkeys(name for sample in found for name in sample["features"])
    places = {name: place for place, name in enumerate(asked)}

    def place(name: str) -> int:
        return places.get(name, places.get(name.rpartition("[")[0], len(places)))

    names = sorted(seen, key=place)
    with out.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([*names, "label", "sha256", "device", "stratum"])
        for sample in found:
            row = [sample["features"].get(name) for name in names]
            more = [sample[name] for name in ("label", "sha256", "device", "stratum")]
            writer.writerow([*row, *more])


def _state(found: SamplePolicy) -> Any:
    if found["ended"] is None:
        return output.state("open")
    return f"ended: {found['ended_reason']}" if found["ended_reason"] else "ended"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _show(found: SamplePolicy, *, as_json: bool) -> None:
    if as_json:
        output.show_json(found)
        return
    output.show(*_lines(found))


def _lines(found: SamplePolicy) -> Iterator[Any]:
    asked = found["asked"]
    features = ", ".join(
        name if privacy == "plain" else f"{name} ({privacy})"
        for name, privacy in asked["features"].items()
    )
    ended = found["ended"]
    yield output.facts(
        [
            ("policy", Text(f"{found['id']} of {found['model']} {found['version']}", style="bold")),
            ("state", _state(found)),
            ("where", found["selector"] or "every device that runs it"),
            ("features", features),
            ("answers", "too" if asked.get("answers") else ""),
            ("rows", f"{asked['rows_per_day']} a day and device: {', '.join(asked['strata'])}"),
            ("begun", f"{output.ago(found['created'])} by {found['created_by']}"),
            ("because", found["reason"]),
            ("ends", "" if ended is not None else _moment(found["expires"])),
            ("ended", f"{output.ago(ended)} by {found['ended_by']}" if ended is not None else ""),
            ("samples", f"{found['rows']} of {found['bytes']} bytes"),
        ]
    )
