"""`muster device`: the fleet, one device, and tokens that let new ones in."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from muster_client.answers import Device, Release
from muster_client.commands import device_logs, enrolling, labelling
from muster_client.resources.devices import Feeds
from muster_client.session import hub
from muster_client.terminal import asking, output
from muster_client.terminal.asking import Yes
from muster_client.terminal.completing import DeviceId
from muster_client.terminal.output import Csv, Json

POLL_SECONDS = 1.0
app = typer.Typer(help="Devices and enrolment.", no_args_is_help=True)

Selector = Annotated[
    str | None,
    typer.Option("--selector", "-s", help="Labels, e.g. 'site=berlin,line in (1,2)'."),
]


@app.command("list")
def list_devices(
    context: typer.Context,
    *,
    selector: Selector = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 1000,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show devices: what they report to run, and their state."""
    items = list(hub(context).devices.list(selector, limit))
    if output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        return
    output.show(_table(items, empty="No device has enrolled yet."))


@app.command("search")
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="Part of an id, of a label or of its value.")],
    *,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 100,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Find devices by part of their id or labels, in any case."""
    items = list(hub(context).devices.search(text, limit))
    if not output.shown_as_data(items, as_json=as_json, as_csv=as_csv):
        output.show(_table(items, empty=f"No device has {text!r} in its id or labels."))


def _table(items: Iterable[Device], *, empty: str) -> RenderableType:
    headings = ("DEVICE", "LINK", "LABELS", "RUNS", "HEALTH", "UPDATE", "SEEN")
    return output.table(headings, map(_row, items), empty=empty)


@app.command("show")
def show_device(context: typer.Context, device: DeviceId, *, as_json: Json = False) -> None:
    """Show one device in full: slots, runtimes, refusals and what the hub has counted."""
    view = hub(context).devices.show(device)
    if as_json:
        output.show_json(view)
        return
    counts = view["counts"]
    report = view.get("report") or {}
    about = report.get("facts") or {}
    output.show(
        output.facts(
            [
                ("device", Text(str(view["id"]), style="bold")),
                ("link", link(view)),
                ("seen", output.ago(view.get("last_seen"))),
                ("labels", view.get("labels")),
                ("generation", report.get("generation")),
                ("agent", about.get("agent_version")),
                ("machine", about.get("machine")),
                ("runtimes", about.get("runtimes")),
                ("providers", about.get("providers")),
                ("isolation", about.get("isolation")),
                ("refused", refusal(report)),
                ("inferences", counts.get("inferences")),
                ("errors", counts.get("errors")),
                ("windows", counts.get("windows")),
                ("by version", counts.get("by_version")),
                *_answers(counts["label_accuracy"]),
                *fetched(view),
                ("waiting", f"{report.get('outbox_rows', 0)} rows on the device"),
                ("set aside", _set_aside(view)),
            ]
        ),
        "",
        output.table(
            ("SLOT", "ASKED", "RUNS", "PROVED", "RUNTIME", "HEALTH", "UPDATE", "DETAIL"),
            (slot_row(name, view) for name in sorted({*slots(view), *asked(view)})),
            empty="No slot has been asked to run anything.",
        ),
    )


def _answers(by_version: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What labels said of each version, and labels that met no answer."""
    for name, said in by_version.items():
        lost = said["unmatched"]
        if said["labels"] or lost:
            words = judged(said)
            if lost:
                words += f"; {lost} labels of inferences that it doesn't remember"
            yield f"labels of {name}", Text(words, style="yellow" if lost else "")


def fetched(view: Device) -> Iterator[tuple[str, Any]]:
    """From which source each slot's latest version comes or came, and in what time."""
    for name, slot in sorted(slots(view).items()):
        update = slot.get("update") or {}
        if source := update.get("fetched_from"):
            seconds = update.get("fetch_seconds", 0.0)
            yield f"{name} fetched", f"{update['version']} from {source}, {seconds:.0f} s so far"


def judged(said: Mapping[str, Any]) -> str:
    """How good answers were by their labels, in words."""
    if said["accuracy"] is not None:
        return f"{said['labels']} labels, {said['accuracy']:.1%} right"
    if said["mean_absolute_error"] is not None:
        return (
            f"{said['labels']} labels, off by {said['mean_absolute_error']:.3g} on average "
            f"(RMS {said['root_mean_square_error']:.3g})"
        )
    return "no label yet"


def _set_aside(device: Device) -> Text | None:
    """Messages that the hub could not take, and why not."""
    if not device["set_aside"]:
        return None
    when, why = output.ago(device["set_aside_at"]), device["set_aside_fault"]
    return Text(f"{device['set_aside']} messages, the latest {when}: {why}", style="red")


enrolling.add_to(app)
labelling.add_to(app)
device_logs.add_to(app)


@app.command("approve")
def approve(context: typer.Context, device: DeviceId, *, as_json: Json = False) -> None:
    """Approve a device that enrolled with a token made with --approval."""
    view = hub(context).devices.approve(device)
    if as_json:
        output.show_json(view)
        return
    output.show(f"{device} is approved.")


@app.command("retry")
def retry(
    context: typer.Context,
    device: DeviceId,
    slot: Annotated[
        str | None, typer.Argument(help="Only this slot; by default all of the device's slots.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Let a device try again what it refused or rolled back, once the reason is gone."""
    answer = hub(context).devices.retry(device, slot)
    if as_json:
        output.show_json(answer)
        return
    output.show(f"{device} tries anew what it refused in {', '.join(answer['slots'])}.")


@app.command("restart")
def restart(
    context: typer.Context, device: DeviceId, *, yes: Yes = False, as_json: Json = False
) -> None:
    """Have a device's agent start anew. Its models don't answer for some seconds meanwhile."""
    if not yes:
        view = hub(context).devices.show(device)
        runs = ", ".join(filter(None, map(running, slots(view).values()))) or "nothing"
        question = f"the agent on {device} starts anew: {runs} does not answer for some seconds"
        asking.confirm(question, yes=yes)
    answer = hub(context).devices.restart(device)
    if as_json:
        output.show_json(answer)
        return
    minutes = max(answer["until"] - time.time(), 0) / 60
    output.show(
        f"{device} starts anew as soon as it hears of it (request {answer['request']}); in "
        f"{minutes:.0f} minutes it is too late. muster tail shows its note."
    )


@app.command("diagnose")
def diagnose(
    context: typer.Context,
    device: DeviceId,
    *,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for the answer; 0: only ask.")
    ] = 60.0,
    last: Annotated[
        bool, typer.Option("--last", help="Show the last answer; ask nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask a device what is wrong on it: its agent's doctor, and its latest warnings."""
    request = 0 if last else hub(context).devices.diagnose(device)["request"]
    found = hub(context).devices.diagnosis(device)
    until = time.monotonic() + wait_seconds
    while found["answered"] < request and time.monotonic() < until:
        time.sleep(POLL_SECONDS)  # The hub pushes no answers to a command.
        found = hub(context).devices.diagnosis(device)
    if as_json:
        output.show_json(found)
    elif found["answered"] < request or not found["answered"]:
        output.show(f"{device} has not answered yet: muster device diagnose --last {device}")
    else:
        rows = ((line["grade"], line["check"], line["line"]) for line in found["lines"])
        output.show(output.table(("", "CHECK", "FOUND"), rows, empty="It found nothing to tell."))
    if found["answered"] < request or any(line["grade"] == "fail" for line in found["lines"]):
        raise typer.Exit(1)


@app.command("feeds")
def feeds(
    context: typer.Context,
    device: str,
    *,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for the device; 0: only ask.")
    ] = 60.0,
    last: Annotated[
        bool, typer.Option("--last", help="Show what it told last; ask nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a device's feeds: each signal's value, unit, quality and age, as it tells them now."""
    if not last:
        hub(context).devices.watch_feeds(device)
    found = hub(context).devices.feeds(device)
    until = time.monotonic() + wait_seconds
    while not last and not _fresh(found) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)  # as above
        found = hub(context).devices.feeds(device)
    answered = found["received"] is not None if last else _fresh(found)
    if as_json:
        output.show_json(found)
    elif not answered:
        output.show(f"{device} has told of no feed: it may have none, or no link.")
    else:
        output.show(*(part for name, feed in found["feeds"].items() for part in _feed(name, feed)))
    if not answered:
        raise typer.Exit(1)


def _fresh(found: Feeds) -> bool:
    """Whether what is there came after it was asked."""
    received, asked_at = found["received"], found["asked_at"]
    return received is not None and asked_at is not None and received >= asked_at


def _feed(name: str, feed: Mapping[str, Any]) -> Iterator[Any]:
    """A feed as a heading and the table of its signals."""
    answer = feed.get("answer") or {}
    yield output.facts(
        [
            ("feed", name),
            ("model", f"{feed['model']} {feed['version']}" if feed["model"] else "none"),
            ("trouble", feed["refusal"]),
            ("answer", f"{answer['quality']}, rests on {answer['basis']}" if answer else ""),
        ]
    )
    rows = (
        (
            signal["feature"],
            "–" if signal["value"] is None else f"{signal['value']:.6g}",
            signal["unit"],
            ": ".join(filter(None, (signal["quality"], signal["reason"]))),
            "–" if signal["age_seconds"] is None else f"{signal['age_seconds']:.1f} s",
        )
        for signal in feed["signals"]
    )
    yield output.table(("FEATURE", "VALUE", "UNIT", "QUALITY", "AGE"), rows, empty="No signals.")
    for kind in ("sources", "sinks"):
        for part, stands in feed[kind].items():
            yield f"{kind[:-1]} {part}: {stands['trouble'] or 'works'}"


@app.command("revoke")
def revoke(
    context: typer.Context, device: DeviceId, *, yes: Yes = False, as_json: Json = False
) -> None:
    """Withdraw the identity of a stolen or scrapped device. This can't be undone."""
    if not yes:
        asking.confirm(_shut_out(hub(context).devices.show(device)), yes=yes)
    view = hub(context).devices.revoke(device)
    if as_json:
        output.show_json(view)
        return
    output.show(f"{device} is revoked; its connection ends and its directive is withdrawn.")


def _shut_out(view: Device) -> str:
    """What a revocation does to a device, in words."""
    where = ", ".join(f"{key}={value}" for key, value in view["labels"].items())
    runs = ", ".join(filter(None, map(running, slots(view).values()))) or "nothing yet"
    return (
        f"{view['id']} ({where or 'no labels'}; {link(view)}; runs {runs}) is shut out for good: "
        "its certificates are revoked, and it comes back only under another id"
    )


def link(view: Device) -> Text:
    """Online, offline or revoked, in colour."""
    if view.get("revoked"):
        return output.state("revoked")
    return output.state("online" if view.get("online") else "offline")


def slots(view: Device) -> dict[str, Any]:
    """The reported slots of a device, by name."""
    found: dict[str, Any] = (view.get("report") or {}).get("slots") or {}
    return found


def refusal(report: dict[str, Any]) -> str:
    """What a device refused last and why; empty when nothing."""
    name = report.get("refusal")
    return f"{name}: {report.get('refusal_detail', '')}".rstrip(": ") if name else ""


def running(slot: dict[str, Any]) -> str:
    """Model and version in a slot; empty when none runs."""
    now = slot.get("running") or {}
    return f"{now['model']} {now['version']}" if now else ""


def _row(view: Device) -> tuple[Any, ...]:
    held = [slot for _, slot in sorted(slots(view).items())]
    return (
        view["id"],
        link(view),
        view.get("labels"),
        "\n".join(running(slot) or "–" for slot in held),
        Text("\n").join(output.state(slot.get("health")) for slot in held),
        Text("\n").join(output.state((slot.get("update") or {}).get("state")) for slot in held),
        output.ago(view.get("last_seen")),
    )


def asked(view: Device) -> dict[str, Release]:
    """What the hub wants a device to run, by slot."""
    return view["desired"] or {}


def slot_row(name: str, view: Device) -> tuple[Any, ...]:
    """A slot as one line of ``muster device show``."""
    slot = slots(view).get(name) or {}
    wanted = asked(view).get(name)
    update = slot.get("update") or {}
    details = [
        slot.get("reason"), update.get("refusal"), update.get("detail"), update.get("waiting_for"),
    ]  # fmt: skip
    return (
        name,
        f"{wanted['model']} {wanted['version']}" if wanted else "",
        running(slot),
        _proved(view, name),
        _computed_by(slot.get("running") or {}),
        output.state(slot.get("health")),
        output.state(update.get("state")),
        ": ".join(text for text in details if text),
    )


def _computed_by(running: Mapping[str, Any]) -> str | None:
    """What runs the model: the runtime, where it computes, on how many threads."""
    if not running:
        return None
    words = str(running["runtime"])
    if providers := running.get("providers"):
        words += f" on {', '.join(providers)}"
    threads = running.get("threads", 0)
    return f"{words}; {threads} threads" if threads > 1 else words


def _proved(view: Device, name: str) -> Text:
    """Whether the device has signed with its own key that it runs what it says."""
    proved = (view.get("proved") or {}).get(name)
    if proved is None:
        return Text("no" if running(slots(view).get(name) or {}) else "", style="yellow")
    return Text(f"yes, {proved['inferences']} inferences", style="green")
