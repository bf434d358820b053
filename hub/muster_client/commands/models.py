"""`muster model`: push a version, see what the hub's check found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from muster_client.answers import Build, Model, Version, VersionDetail
from muster_client.commands import packing, trust
from muster_client.failures import Rejected, WrongUsage
from muster_client.resources.models import DAYS, WAIT_SECONDS, InUse, reason
from muster_client.session import hub
from muster_client.terminal import output
from muster_client.terminal.completing import ModelName
from muster_client.terminal.output import Csv, Json
from muster_client.terminal.progress import UploadBars

app = typer.Typer(help="Models and their versions.", no_args_is_help=True)
app.command("pack")(packing.pack)
app.command("import")(packing.import_model)
app.command("init")(packing.init)


@app.command("push")
@packing.with_options
def push(
    context: typer.Context,
    bundle: Annotated[
        Path, typer.Argument(help="A bundle's folder, or a model file to pack and push in one.")
    ],
    *,
    wait: Annotated[bool, typer.Option(help="Wait until the hub has checked the version.")] = True,
    wait_seconds: Annotated[
        float, typer.Option(min=1, help="How long to wait at most.")
    ] = WAIT_SECONDS,
    config: packing.Config = None,
    as_json: Json = False,
    said: dict[str, Any],
) -> None:
    """Upload a version. The hub loads it and runs its golden vectors before it can be signed.

    A model file is packed first, as `muster model pack` does, into a folder that isn't kept.
    """
    if not bundle.is_file() and (said or config is not None):
        raise WrongUsage(f"{bundle} is packed already: options of packing are for model files")
    with UploadBars(quiet=as_json) as bars:
        try:
            view = hub(context).push(
                bundle,
                wait_seconds=wait_seconds if wait else None,
                progress=bars,
                packed=lambda found: None if as_json else packing.show_advice(found),
                config=config,
                **said,
            )
        except Rejected as error:
            bars.stop()
            _show(context, error.version, as_json=as_json)
            raise
    _show(context, view, as_json=as_json)


@app.command("list")
def list_models(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Show the versions of this model.")] = None,
    *,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show models, or the versions of one model."""
    if model is not None:
        view = hub(context).models.versions(model)
        if as_json:
            output.show_json(view)
            return
        rows = (_version_row(version) for version in view.get("versions", []))
        columns = ("VERSION", "STATUS", "SIZE", "PUSHED", "BY")
        output.show(output.table(columns, rows, empty=f"{model} has no version yet."))
        return
    items = list(hub(context).models.list())
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    rows_of_models = ((view["name"], *_newest(view)) for view in items)
    headings = ("MODEL", "VERSIONS", "NEWEST", "STATUS")
    output.show(output.table(headings, rows_of_models, empty="No model has been pushed yet."))


@app.command("show")
def show_version(
    context: typer.Context, model: ModelName, version: str, *, as_json: Json = False
) -> None:
    """Show one version: where it comes from and what its check found."""
    _show(context, hub(context).models.show(model, version), as_json=as_json)


@app.command("card")
def card(context: typer.Context, model: ModelName, version: str, *, as_json: Json = False) -> None:
    """Show a version's model card: what is measured, and what people say of it."""
    found = hub(context).models.card(model, version)
    if as_json:
        output.show_json(found)
        return
    yes = {name.replace("_", " "): text or "nobody has said" for name, text in
           found["said"].items()}  # fmt: skip
    output.show(
        Text(f"{found['model']} {found['version']}, {found['status']}", style="bold"),
        output.facts([*yes.items(), *found["lineage"].items(), ("metrics", found["metrics"])]),
    )
    gates = ((g["gate"], output.state("ok" if g["ok"] else "failed"), g["says"])
             for g in found["gates"])  # fmt: skip
    output.show("", output.table(("GATE", "VERDICT", "WHY"), gates, empty="No gates."))


@app.command("bill")
def bill(context: typer.Context, model: ModelName, version: str) -> None:
    """Print a version's bill of materials as CycloneDX 1.7 JSON."""
    output.show_json(hub(context).models.bill(model, version))


@app.command("compare")
def compare(
    context: typer.Context,
    model: ModelName,
    first: Annotated[str, typer.Argument(help="A version.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    *,
    days: Annotated[int, typer.Option(min=1, max=400, help="How far back to look.")] = DAYS,
    as_json: Json = False,
) -> None:
    """Show two versions side by side: what they are, and how they do on the fleet."""
    found = hub(context).models.compare(model, first, second, days)
    if as_json:
        output.show_json(found)
        return
    sides = [_side(each["version"], each["in_use"]) for each in found]
    names = list(dict.fromkeys(name for side in sides for name in side))
    rows = ((name, *(side.get(name) for side in sides)) for name in names)
    output.show(output.table(("", first, second), rows, empty=""))


def _side(view: VersionDetail, in_use: InUse) -> dict[str, Any]:
    """One version's column of a comparison."""
    facts = next((build.get("facts") or {} for build in view["check"]["builds"]), {})
    latency, p95 = facts.get("latency_ms"), in_use["p95_seconds"]
    metrics = {f"metric {name}": value for name, value in view["lineage"]["metrics"].items()}
    return {
        "status": output.state(view["status"]),
        "pushed": output.ago(view["created"]),
        "size": output.size(view["size_bytes"]),
        "memory at the check": output.size(facts.get("memory_bytes")),
        "latency at the check": None if latency is None else f"{latency:.3g} ms",
        **metrics,
        "devices": in_use["devices"],
        "inferences": in_use["inferences"],
        "errors": in_use["errors"],
        "labels": in_use["labels"],
        "right by its labels": None if in_use["accuracy"] is None else f"{in_use['accuracy']:.1%}",
        "mean absolute error": in_use["mean_absolute_error"],
        "RMS error": in_use["root_mean_square_error"],
        "p95 on devices": None if p95 is None else f"{p95 * 1e3:.3g} ms",
    }


def _show(context: typer.Context, view: VersionDetail, *, as_json: bool) -> None:
    if as_json:
        output.show_json(view)
        return
    signers: list[tuple[str, str]] = []
    if view["status"] == "awaiting_signatures":
        signers = trust.waiting_for(hub(context).trust.show()["waiting"], view["model"])
    output.show(*_version_lines(view, signers))


def _version_lines(view: Version, signers: list[tuple[str, str]]) -> Iterator[Any]:
    lineage = view["lineage"]
    yield output.facts(
        [
            ("model", Text(f"{view['model']} {view['version']}", style="bold")),
            ("status", output.state(view["status"])),
            ("manifest", view["manifest_sha256"]),
            ("size", output.size(view["size_bytes"])),
            ("pushed", output.ago(view["created"])),
            ("by", view["created_by"]),
            *((name, lineage.get(name)) for name in ("source", "commit", "data", "trained_at")),
            ("metrics", lineage.get("metrics")),
            *signers,
            ("refused", reason(view) if view["status"] == "rejected" else ""),
        ]
    )
    builds = view["check"]["builds"]
    if builds:
        yield ""
        yield output.table(
            ("BUILD", "CHECK", "GOLDEN", "LATENCY", "MEMORY", "DETAIL"),
            (_build_row(build) for build in builds),
            empty="",
        )


def _build_row(build: Build) -> tuple[Any, ...]:
    found = build.get("facts") or {}
    latency = found.get("latency_ms")
    return (
        build.get("runtime"),
        output.state("ok" if build.get("ok") else "failed"),
        found.get("golden_cases"),
        f"{latency:.2f} ms" if latency is not None else None,
        output.size(found.get("memory_bytes")),
        build.get("detail"),
    )


def _version_row(view: Version) -> tuple[Any, ...]:
    return (
        view["version"],
        output.state(view["status"]),
        output.size(view["size_bytes"]),
        output.ago(view["created"]),
        view["created_by"],
    )


def _newest(view: Model) -> tuple[Any, ...]:
    versions = view["versions"]
    if not versions:
        return 0, None, None
    newest = max(versions, key=lambda version: version["created"])
    return len(versions), newest["version"], output.state(newest.get("status"))
