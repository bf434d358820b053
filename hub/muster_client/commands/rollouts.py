"""`muster rollout`: start one, watch it, hold it, end it."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from muster_client.client import Api
from muster_client.commands import rollout_words
from muster_client.failures import Exit, OperatorError
from muster_client.session import api
from muster_client.terminal import asking, bars, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.output import Json

app = typer.Typer(help="Bring a version to devices, in waves.", no_args_is_help=True)

POLL_SECONDS = 0.5
ENDED = {"completed", "stopped", "aborted", "rolled_back"}

RolloutId = Annotated[int, typer.Argument(metavar="ID", help="The rollout's number.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it ends.")]


Slot = Annotated[str, typer.Option(help="Where on the device it runs.")]
Selector = Annotated[str, typer.Option("--selector", "-s", help="Which devices; empty is all.")]
Canary = Annotated[
    str, typer.Option(help="First wave: a share (0.25), a percentage (25%) or a count (3).")
]
Soak = Annotated[
    float, typer.Option(min=0, help="How long the canary must hold before the rest follow.")
]
Timeout = Annotated[float, typer.Option(min=1, help="How long a device may take while online.")]
Shadow = Annotated[
    str,
    typer.Option(
        help="Watch it first beside what runs, on a share (0.1), a percentage or a count (3)."
    ),
]
Experiment = Annotated[
    str,
    typer.Option(
        help="In place of a canary: try it on a share (0.5) or a percentage of matched devices, "
        "as many keep what they run to compare with. At most 50%."
    ),
]
Window = Annotated[
    float | None, typer.Option(min=1, help="Telemetry window; the hub's own when not given.")
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        help="JSON of the API's plan: waves, budgets, windows, gate. Comes before the options.",
    ),
]


@app.command("start")
def start(
    context: typer.Context,
    model: str,
    version: str,
    *,
    slot: Slot = "main",
    selector: Selector = "",
    canary: Canary = "25%",
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
    asked = _asked(slot, selector, canary, min_soak_seconds, timeout_seconds, window_seconds)
    asked |= _first(shadow, experiment)
    hub = api(context)
    view = hub.post("/rollouts", _body(model, version, asked, plan_file))
    _show_result(hub, view, watch=watch, as_json=as_json)


@app.command("plan")
def plan(
    context: typer.Context,
    model: str,
    version: str,
    *,
    slot: Slot = "main",
    selector: Selector = "",
    canary: Canary = "25%",
    shadow: Shadow = "",
    experiment: Experiment = "",
    min_soak_seconds: Soak = 60.0,
    timeout_seconds: Timeout = 1800.0,
    window_seconds: Window = None,
    plan_file: PlanFile = None,
    as_json: Json = False,
) -> None:
    """Show what `start` with the same options would do. Nothing is started."""
    asked = _asked(slot, selector, canary, min_soak_seconds, timeout_seconds, window_seconds)
    asked |= _first(shadow, experiment)
    found = api(context).post("/rollouts/plan", _body(model, version, asked, plan_file))
    if as_json:
        output.show_json(found)
    else:
        output.show(rollout_words.planned(found))


@app.command("explain")
def explain(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Tell each step it took and why, and who waits for a permit to swap."""
    view = api(context).get(f"/rollouts/{rollout}")
    if as_json:
        shown = ("state", "reason", "warnings", "history", "permits")
        output.show_json({name: view[name] for name in shown})
    else:
        output.show(rollout_words.explained(view))


@app.command("list")
def list_rollouts(context: typer.Context, *, limit: int = 50, as_json: Json = False) -> None:
    """Show rollouts, the newest first."""
    items = list(api(context).pages("/rollouts", limit=limit))
    if as_json:
        output.show_json(items)
        return
    headings = ("ID", "MODEL", "SLOT", "SELECTOR", "STATE", "STARTED", "REASON")
    rows = (
        (
            item["id"],
            f"{item['model']} {item['version']}",
            item.get("slot"),
            item.get("selector") or "all",
            output.state(item.get("state")),
            output.ago(item.get("created")),
            item.get("reason"),
        )
        for item in items
    )
    output.show(output.table(headings, rows, empty="No rollout has been started yet."))


@app.command("status")
def status(
    context: typer.Context, rollout: RolloutId, *, watch: Watch = False, as_json: Json = False
) -> None:
    """Show a rollout by wave and device, and the reason for its state in words."""
    hub = api(context)
    _show_result(hub, hub.get(f"/rollouts/{rollout}"), watch=watch, as_json=as_json)


@app.command("pause")
def pause(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Ask no further device. Those under way finish."""
    _act(context, rollout, "pause", as_json=as_json)


@app.command("resume")
def resume(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Go on with a paused rollout."""
    _act(context, rollout, "resume", as_json=as_json)


@app.command("abort")
def abort(
    context: typer.Context, rollout: RolloutId, *, yes: Yes = False, as_json: Json = False
) -> None:
    """End it and bring the devices it reached back to what they ran before."""
    if not yes:
        asking.confirm(_going_back(api(context).get(f"/rollouts/{rollout}")), yes=yes)
    _act(context, rollout, "abort", as_json=as_json)


@app.command("approve")
def approve(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Let it begin, or let the wave begin that waits for it. May have to be another person."""
    _act(context, rollout, "approve", as_json=as_json)


@app.command("advance")
def advance(
    context: typer.Context, rollout: RolloutId, *, yes: Yes = False, as_json: Json = False
) -> None:
    """Pass the present wave by hand, whatever its gate still waits for."""
    if not yes:
        asking.confirm(_passed_by_hand(api(context).get(f"/rollouts/{rollout}")), yes=yes)
    _act(context, rollout, "advance", as_json=as_json)


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
        asking.confirm(_going_back(api(context).get(f"/rollouts/{rollout}")), yes=yes)
    _act(context, rollout, "rollback", as_json=as_json)


@app.command("watch")
def watch_rollout(context: typer.Context, rollout: RolloutId, *, as_json: Json = False) -> None:
    """Follow it until it ends; succeeds only when it completes."""
    hub = api(context)
    _show_result(hub, hub.get(f"/rollouts/{rollout}"), watch=True, as_json=as_json)


def parse_canary(text: str) -> float | int:
    """``0.25`` and ``25%`` are a share of the devices, ``3`` is a count; 0 is no canary."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if text.endswith("%"):
        value /= 100
        if 0 <= value < 1:
            return value
    elif 0 <= value < 1:
        return value
    elif value >= 1 and value.is_integer():
        return int(value)
    raise OperatorError(
        f"canary {text!r}: give a share below 1 (0.25 or 25%) or a whole number of devices",
        Exit.USAGE,
    )


def parse_share(text: str) -> float:
    """``0.5`` and ``50%`` are half of the devices, the most an arm may have."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if 0 < value <= 0.5:
        return value
    raise OperatorError(
        f"experiment {text!r}: give a share of the devices up to one half (0.5 or 50%)",
        Exit.USAGE,
    )


def _first(shadow: str, experiment: str) -> dict[str, Any]:
    """What comes before the waves, or in place of the first."""
    first: dict[str, Any] = {}
    if shadow:
        first["shadow"] = {"devices": parse_canary(shadow)}
    if experiment:
        first["experiment"] = {"share": parse_share(experiment)}
    return first


def _asked(
    slot: str,
    selector: str,
    canary: str,
    min_soak_seconds: float,
    timeout_seconds: float,
    window_seconds: float | None,
) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "slot": slot,
        "selector": selector,
        "canary": parse_canary(canary),
        "min_soak_seconds": min_soak_seconds,
        "timeout_seconds": timeout_seconds,
    }
    return asked if window_seconds is None else {**asked, "window_seconds": window_seconds}


def _body(model: str, version: str, asked: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """The request: what the file says comes before ``asked``, but never names another version."""
    named = {"model": model, "version": version}
    if file is None:
        return {**asked, **named}
    try:
        plan = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise OperatorError(f"{file}: not a readable plan in JSON: {error}", Exit.USAGE) from error
    if not isinstance(plan, dict):
        raise OperatorError(f"{file}: a plan is one JSON object", Exit.USAGE)
    for name, value in named.items():
        if plan.get(name, value) != value:
            raise OperatorError(
                f"{file}: {name} is {plan[name]!r} there and {value!r} on the command line",
                Exit.USAGE,
            )
    return {**asked, **plan, **named}


def render(view: dict[str, Any]) -> RenderableType:
    """A rollout for people: its state in words, then each wave and its devices."""
    head = Text.assemble(
        (f"rollout {view['id']}  ", "bold"),
        f"{view['model']} {view['version']}  ",
        output.state(view.get("state")),
    )
    parts: list[RenderableType] = [head]
    if view.get("reason"):
        parts.append(Text(str(view["reason"])))
    if view.get("shadow"):
        parts.append(_shadow(view["shadow"]))
    if view.get("experiment"):
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


def _shadow(shadow: dict[str, Any]) -> RenderableType:
    headings = ("DEVICE", "COMPARED", "DIFFERENT", "FAILED", "LABELLED", "RIGHT", "CHAMPION RIGHT")
    names = ("device", "compared", "disagreed", "failed", "labelled", "right", "champion_right")
    rows = (tuple(device[name] for name in names) for device in shadow["devices"])
    table = output.table(headings, rows, empty="no device yet")
    return Group(Text(f"\nshadow  {shadow['reason']}"), table)


def _experiment(found: dict[str, Any]) -> RenderableType:
    rows = (
        (
            effect["metric"],
            effect["unit"],
            *(f"{effect[name]:.3g}" for name in ("effect", "low", "high")),
        )
        for effect in found["effects"]
    )
    table = output.table(
        ("METRIC", "UNIT", "B AGAINST A", "LOW", "HIGH"), rows, empty="nothing compared yet"
    )
    head = f"\nexperiment  {found['outcome']}; {found['b']} devices with it (B), "
    return Group(Text(f"{head}{found['a']} without (A)"), table)


def _going_back(view: dict[str, Any]) -> str:
    """What an abort or a rollback does, in words."""
    reached = sum(
        device.get("state") in ("in_progress", "committed")
        for wave in view.get("waves", [])
        for device in wave.get("devices", [])
    )
    return f"{_named(view)}: {reached} devices it reached go back to what they ran before"


def _passed_by_hand(view: dict[str, Any]) -> str:
    """What an advance does, in words."""
    waits = str(view.get("reason") or "nothing is said").rstrip(".")
    return f"{_named(view)}: more devices get it without what is waited for ({waits})"


def _named(view: dict[str, Any]) -> str:
    return f"rollout {view['id']} ({view['model']} {view['version']}, {view['state']})"


def _act(context: typer.Context, rollout: int, action: str, *, as_json: bool) -> None:
    hub = api(context)
    hub.post(f"/rollouts/{rollout}/{action}")
    _show_result(hub, hub.get(f"/rollouts/{rollout}"), watch=False, as_json=as_json)


def _show_result(hub: Api, view: dict[str, Any], *, watch: bool, as_json: bool) -> None:
    if watch:
        view = _follow(hub, view, quiet=as_json)
    if as_json:
        output.show_json(view)
    else:
        output.show(render(view))
    if watch and view.get("state") != "completed":
        raise OperatorError(f"rollout {view['id']} {view.get('state')}: {view.get('reason')}")


def _follow(hub: Api, view: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    screen = output.console()
    screen.quiet = quiet or not screen.is_terminal
    with Live(render(view), console=screen, transient=True, auto_refresh=False) as live:
        while view.get("state") not in ENDED:
            time.sleep(POLL_SECONDS)
            view = hub.get(f"/rollouts/{view['id']}")
            live.update(render(view), refresh=True)
    return view
