"""`muster rollout`: start one, watch it, hold it, end it."""

import json
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from muster_client import answers
from muster_client.answers import Rollout
from muster_client.commands import rollout_words
from muster_client.failures import OperatorError, WrongUsage
from muster_client.resources.rollouts import Plan, parse_canary, parse_share, parse_wave
from muster_client.session import hub
from muster_client.terminal import asking, bars, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.completing import ModelName
from muster_client.terminal.output import Csv, Json
from muster_protocol.wire import bounds

app = typer.Typer(help="Bring a version to devices, in waves.", no_args_is_help=True)

RolloutId = Annotated[int, typer.Argument(metavar="ID", help="The rollout's number.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it ends.")]


Slot = Annotated[str, typer.Option(help="Where on the device it runs.")]
Selector = Annotated[str, typer.Option("--selector", "-s", help="Which devices; empty is all.")]
Canary = Annotated[
    str | None,
    typer.Option(
        help="First wave: a share (0.25), a percentage (25%) or a count (3). Default: 25%, or "
        "the first --wave."
    ),
]
Waves = Annotated[
    list[str] | None,
    typer.Option(
        "--wave",
        help="A further wave: a share of all devices, earlier waves counted (0.5 or 50%); repeat.",
    ),
]
Soak = Annotated[
    float,
    typer.Option(
        min=0, help="How long the canary must run without trouble before the rest follow."
    ),
]
Timeout = Annotated[float, typer.Option(min=1, help="How long a device may take while online.")]
Shadow = Annotated[
    str,
    typer.Option(
        help="First run it as a challenger, on a share (0.1), a percentage or a count (3)."
    ),
]
Experiment = Annotated[
    str,
    typer.Option(
        help="Instead of a canary: try it on a share (0.5) or a percentage of matched devices, "
        "and compare with as many that keep what they run. At most 50%."
    ),
]
Window = Annotated[
    float | None,
    typer.Option(min=1, help="Length of a telemetry window; by default the hub's setting."),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        help="JSON file with the plan as the API takes it: waves, budgets, windows, gate.",
    ),
]


@app.command("start")
def start(
    context: typer.Context,
    model: ModelName,
    version: str,
    *,
    slot: Slot = "main",
    selector: Selector = "",
    canary: Canary = None,
    wave: Waves = None,
    shadow: Shadow = "",
    experiment: Experiment = "",
    min_soak_seconds: Soak = 60.0,
    timeout_seconds: Timeout = 1800.0,
    window_seconds: Window = None,
    plan_file: PlanFile = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Start a rollout. It stops by itself when canary devices fail."""
    asked = _asked(slot, selector, min_soak_seconds, timeout_seconds, window_seconds)
    asked |= _waves(canary, wave or []) | _first(shadow, experiment)
    plan = _plan(model, version, asked, plan_file)
    _warn(hub(context).rollouts.plan(model, version, **plan))
    view = hub(context).rollouts.start(model, version, **plan)
    _show_result(context, view, watch=watch, as_json=as_json)


@app.command("plan")
def plan_rollout(
    context: typer.Context,
    model: ModelName,
    version: str,
    *,
    slot: Slot = "main",
    selector: Selector = "",
    canary: Canary = None,
    wave: Waves = None,
    shadow: Shadow = "",
    experiment: Experiment = "",
    min_soak_seconds: Soak = 60.0,
    timeout_seconds: Timeout = 1800.0,
    window_seconds: Window = None,
    plan_file: PlanFile = None,
    as_json: Json = False,
) -> None:
    """Show what `start` with the same options would do. Nothing is started."""
    asked = _asked(slot, selector, min_soak_seconds, timeout_seconds, window_seconds)
    asked |= _waves(canary, wave or []) | _first(shadow, experiment)
    plan = _plan(model, version, asked, plan_file)
    found = hub(context).rollouts.plan(model, version, **plan)
    if as_json:
        output.show_json(found)
    else:
        output.show(rollout_words.planned(found))


@app.command("explain")
def explain(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Show each step and its reason, and which devices wait for a swap permit."""
    view = hub(context).rollouts.explain(rollout)
    if as_json:
        shown = ("state", "reason", "warnings", "history", "permits")
        output.show_json({name: value for name, value in view.items() if name in shown})
    else:
        output.show(rollout_words.explained(view))


@app.command("list")
def list_rollouts(
    context: typer.Context, *, limit: int = 50, as_json: Json = False, as_csv: Csv = False
) -> None:
    """Show rollouts, the newest first."""
    items = list(hub(context).rollouts.list(limit))
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    headings = ("ID", "MODEL", "SLOT", "SELECTOR", "STATE", "STARTED", "REASON")
    rows = (
        (
            rollout_view["id"],
            f"{rollout_view['model']} {rollout_view['version']}",
            rollout_view.get("slot"),
            rollout_view.get("selector") or "all",
            output.state(rollout_view.get("state")),
            output.ago(rollout_view.get("created")),
            rollout_view.get("reason"),
        )
        for rollout_view in items
    )
    output.show(output.table(headings, rows, empty="No rollout has been started yet."))


@app.command("status")
def status(
    context: typer.Context, rollout: RolloutId, *, watch: Watch = False, as_json: Json = False
) -> None:
    """Show a rollout by wave and device, and the reason for its state in words."""
    view = hub(context).rollouts.status(rollout)
    _show_result(context, view, watch=watch, as_json=as_json)


@app.command("pause")
def pause(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Ask no further devices. Devices that have begun finish."""
    _show_result(context, hub(context).rollouts.pause(rollout), as_json=as_json)


@app.command("resume")
def resume(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Continue a paused rollout."""
    _show_result(context, hub(context).rollouts.resume(rollout), as_json=as_json)


@app.command("abort")
def abort(
    context: typer.Context, rollout: RolloutId, *, yes: Yes = False, as_json: Json = False
) -> None:
    """End a rollout and bring the devices that it reached back to what they ran before."""
    if not yes:
        asking.confirm(_going_back(hub(context).rollouts.status(rollout)), yes=yes)
    _show_result(context, hub(context).rollouts.abort(rollout), as_json=as_json)


@app.command("approve")
def approve(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Approve the start, or the wave that waits for approval. A second person may be required."""
    _show_result(context, hub(context).rollouts.approve(rollout), as_json=as_json)


@app.command("advance")
def advance(
    context: typer.Context, rollout: RolloutId, *, yes: Yes = False, as_json: Json = False
) -> None:
    """End the current wave by hand, without waiting for its gate."""
    if not yes:
        asking.confirm(_passed_by_hand(hub(context).rollouts.status(rollout)), yes=yes)
    _show_result(context, hub(context).rollouts.advance(rollout), as_json=as_json)


@app.command("rollback")
def rollback(
    context: typer.Context,
    rollout: RolloutId,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring every device back to what it ran before, also after it has completed."""
    if not yes:
        asking.confirm(_going_back(hub(context).rollouts.status(rollout)), yes=yes)
    _show_result(context, hub(context).rollouts.rollback(rollout), as_json=as_json)


@app.command("watch")
def watch_rollout(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Follow a rollout until it ends. Exit code 0 only if it completed."""
    view = hub(context).rollouts.status(rollout)
    _show_result(context, view, watch=True, as_json=as_json)


def _waves(canary: str | None, waves: list[str]) -> Plan:
    """The canary and the waves after it; the first wave is the canary where none is named."""
    if canary is None and waves:
        canary, waves = waves[0], waves[1:]
    asked: Plan = {"canary": parse_canary(canary or "25%")}
    if waves:
        asked["waves"] = [{"share": parse_wave(text)} for text in waves]
    return asked


def _warn(plan: answers.RolloutPlan) -> None:
    """Say on standard error what should be known of a rollout before it starts."""
    warnings = list(plan["warnings"])
    if not plan["devices"]:
        whom = plan["selector"] or "any"
        warnings.insert(0, f"no device matches {whom!r} now: it waits for some to enrol")
    for words in warnings:
        typer.echo(f"muster: beware: {bounds.clean(words)}", err=True)


def _first(shadow: str, experiment: str) -> Plan:
    """What comes before the waves, or in place of the first."""
    first: Plan = {}
    if shadow:
        first["shadow"] = {"devices": parse_canary(shadow)}
    if experiment:
        first["experiment"] = {"share": parse_share(experiment)}
    return first


def _asked(
    slot: str,
    selector: str,
    min_soak_seconds: float,
    timeout_seconds: float,
    window_seconds: float | None,
) -> Plan:
    asked: Plan = {
        "slot": slot,
        "selector": selector,
        "min_soak_seconds": min_soak_seconds,
        "timeout_seconds": timeout_seconds,
    }
    if window_seconds is not None:
        asked["window_seconds"] = window_seconds
    return asked


def _plan(model: str, version: str, asked: Plan, file: Path | None) -> Plan:
    """What the file says comes before ``asked``, but never names another version."""
    if file is None:
        return asked
    try:
        plan = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise WrongUsage(f"{file}: not a readable plan in JSON: {error}") from error
    if not isinstance(plan, dict):
        raise WrongUsage(f"{file}: a plan is one JSON object")
    for name, value in (("model", model), ("version", version)):
        there = plan.pop(name, value)
        if there != value:
            raise WrongUsage(f"{file}: {name} is {there!r} there and {value!r} on the command line")
    return cast("Plan", {**asked, **plan})


def render(view: Rollout) -> RenderableType:
    """A rollout for people: its state in words, then each wave and its devices."""
    head = Text.assemble(
        (f"rollout {view['id']}  ", "bold"),
        f"{view['model']} {view['version']}  ",
        output.state(view.get("state")),
    )
    parts: list[RenderableType] = [head]
    if view.get("reason"):
        parts.append(Text(str(view["reason"])))
    if view["shadow"] is not None:
        parts.append(_shadow(view["shadow"]))
    if view["experiment"] is not None:
        parts.append(_experiment(view["experiment"]))
    for wave in view.get("waves", []):
        devices = wave.get("devices", [])
        done = sum(device.get("state") == "committed" for device in devices)
        meter = bars.meter(done, len(devices))
        parts.append(Text(f"\n{wave.get('name', 'wave')}  {meter}  {done}/{len(devices)}"))
        parts.append(
            output.table(
                ("DEVICE", "STATE", "SINCE", "DETAIL"),
                (
                    (
                        device.get("device"),
                        output.state(device.get("state")),
                        output.ago(device.get("changed_at")),
                        device.get("detail"),
                    )
                    for device in devices
                ),
                empty="no device yet",
            )
        )
    return Group(*parts)


def _shadow(shadow: answers.Shadow) -> RenderableType:
    headings = ("DEVICE", "COMPARED", "DIFFERENT", "FAILED", "LABELLED", "RIGHT", "CHAMPION RIGHT")
    names = ("device", "compared", "disagreed", "failed", "labelled", "right", "champion_right")
    rows = (tuple(dict(device)[name] for name in names) for device in shadow["devices"])
    table = output.table(headings, rows, empty="no device yet")
    return Group(Text(f"\nshadow  {shadow['reason']}"), table)


def _experiment(found: answers.Experiment) -> RenderableType:
    rows = (
        (
            effect["metric"],
            effect["unit"],
            *(f"{number:.3g}" for number in (effect["effect"], effect["low"], effect["high"])),
        )
        for effect in found["effects"]
    )
    table = output.table(
        ("METRIC", "UNIT", "B AGAINST A", "LOW", "HIGH"), rows, empty="nothing compared yet"
    )
    head = f"\nexperiment  {found['outcome']}; {found['b']} devices with it (B), "
    return Group(Text(f"{head}{found['a']} without (A)"), table)


def _going_back(view: Rollout) -> str:
    """What an abort or a rollback does, in words."""
    reached = sum(
        device.get("state") in ("in_progress", "committed")
        for wave in view.get("waves", [])
        for device in wave.get("devices", [])
    )
    return f"{_named(view)}: {reached} devices it reached go back to what they ran before"


def _passed_by_hand(view: Rollout) -> str:
    """What an advance does, in words."""
    waits = view["reason"].rstrip(".") or "nothing is said"
    return f"{_named(view)}: more devices get it without what is waited for ({waits})"


def _named(view: Rollout) -> str:
    return f"rollout {view['id']} ({view['model']} {view['version']}, {view['state']})"


def _show_result(
    context: typer.Context, view: Rollout, *, watch: bool = False, as_json: bool
) -> None:
    if watch:
        view = _follow(context, view, quiet=as_json)
    if as_json:
        output.show_json(view)
    else:
        output.show(render(view))
    if watch and view["state"] != "completed":
        raise OperatorError(f"rollout {view['id']} {view['state']}: {view['reason']}")


def _follow(context: typer.Context, view: Rollout, *, quiet: bool) -> Rollout:
    screen = output.console()
    screen.quiet = quiet or not screen.is_terminal
    with Live(render(view), console=screen, transient=True, auto_refresh=False) as live:
        for latest in hub(context).rollouts.watch(view["id"]):
            view = latest
            live.update(render(view), refresh=True)
    return view
