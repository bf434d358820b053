"""``muster-agent feed check | list | record | replay``: a feed put to work without a programmer."""

import argparse
import asyncio
import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from muster_agent.base.config import Config, ConfigError
from muster_agent.feeds import commissioning, live, recording
from muster_agent.feeds.assembly import Assembler, Values, refusals
from muster_agent.feeds.hints import hint
from muster_agent.feeds.hub_settings import load_feeds
from muster_agent.feeds.model import FedModel, assembler_of, tags_of
from muster_agent.feeds.samples import Arrival, Grade, Picture, Reason, Sample
from muster_agent.feeds.slot_client import SlotClient
from muster_agent.feeds.sources.base import FeedFault
from muster_agent.feeds.status import FeedStatus
from muster_protocol.wire.manifest import Manifest

CHECK_SECONDS = 10.0
SETTLE_SECONDS = 1.0
"""What has come by then of the last signal is what it gives."""

ASK_SECONDS = 10.0
Run = Callable[[argparse.Namespace], int]
Add = Callable[[str, Run, str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Give the commands to a parser's ``add``, which makes one with ``--dir``."""
    checking = add("check", check, "Connect a feed's sources and show what its model is given.")
    checking.add_argument("feed", metavar="FEED")
    _add_manifest(checking)
    checking.add_argument("--seconds", type=float, default=CHECK_SECONDS, help="wait at most")
    add("list", show, "Show each feed as it runs.")
    writing = add("record", record, "Write what a feed's sources give to a file.")
    writing.add_argument("feed", metavar="FEED")
    writing.add_argument("file", type=Path, metavar="FILE")
    writing.add_argument("--seconds", type=float, default=60.0, help="for so long")
    again = add("replay", replay, "Show, as CSV, what a model would be given of a recording.")
    again.add_argument("feed", metavar="FEED")
    again.add_argument("file", type=Path, metavar="FILE")
    _add_manifest(again)


def _add_manifest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE", help="a manifest.json instead of the slot's"
    )


def check(options: argparse.Namespace) -> int:
    """0 when every feature is good and the slot answers."""
    loaded = load_feeds(options.dir)
    settings = commissioning.settings_of(loaded, options.feed)
    manifest = commissioning.manifest_of(loaded, settings.slot, options.manifest)
    if manifest is None:
        return _check_tags(loaded, options)
    faults = refusals(manifest, tags_of(settings))
    if faults:
        print("\n".join(faults))
        return 1
    assembler = assembler_of(manifest)
    latest: dict[str, float] = {}
    first: dict[str, float] = {}

    def take(arrivals: Sequence[Arrival]) -> bool:
        now = time.monotonic()
        for arrival in arrivals:
            assembler.take(arrival)
            if isinstance(arrival, Sample | Picture):
                latest[arrival.signal] = arrival.value
                first.setdefault(arrival.signal, now)
        states = assembler.states(now)
        heard = all(state.feature.source in first for state in states)
        settled = heard and now - max(first.values()) >= SETTLE_SECONDS
        return not settled and any(state.grade != "good" for state in states)

    troubles = asyncio.run(commissioning.listen(loaded, options.feed, options.seconds, take))
    _print_troubles(troubles)
    tags = tags_of(settings)
    well = not any(troubles.values())
    now = time.monotonic()
    for state in assembler.states(now):
        name, unit = state.feature.name, state.feature.unit
        quality = state.grade if not state.reason else f"{state.grade} ({state.reason})"
        signal = state.feature.source
        value = latest.get(signal, float("nan"))
        shown = state.values[-1] if state.grade != "bad" else value
        words = hint(state, tags[signal], value)
        age = "" if signal not in latest else f"{state.age_seconds:.1f} s"
        print(f"{name:<24} {shown:>12.6g} {unit:<8} {quality:<20} {age:>8}  {words}".rstrip())
        well = well and state.grade != "bad"
    row = assembler.peek(now)
    if options.manifest is None and row.values is not None:
        model, socket = FedModel(manifest, None, settings), loaded.socket_path(settings.slot)
        well = asyncio.run(_ask(socket, model, row.values)) and well
    return 0 if well else 1


def _check_tags(loaded: Config, options: argparse.Namespace) -> int:
    """Without a model: each tag by itself."""
    settings = commissioning.settings_of(loaded, options.feed)
    tags = tags_of(settings)
    latest: dict[str, Sample] = {}

    def take(arrivals: Sequence[Arrival]) -> bool:
        latest.update(
            {each.signal: _sample(each) for each in arrivals if isinstance(each, Sample | Picture)}
        )
        return len(latest) < len(tags)

    troubles = asyncio.run(commissioning.listen(loaded, options.feed, options.seconds, take))
    print(f"no model runs in slot {settings.slot!r}: each tag by itself")
    _print_troubles(troubles)
    for signal, tag in tags.items():
        sample = latest.get(signal)
        if sample is None:
            print(f"{signal:<24} {'–':>12} {tag.unit:<8} bad (missing)")
        else:
            reason = f" ({sample.reason})" if sample.reason else ""
            print(f"{signal:<24} {sample.value:>12.6g} {tag.unit:<8} {sample.grade}{reason}")
    good = all(sample.grade != "bad" for sample in latest.values()) and len(latest) == len(tags)
    return 0 if good and not any(troubles.values()) else 1


def _sample(arrival: Sample | Picture) -> Sample:
    """A picture is shown by the mean of its pixels."""
    if isinstance(arrival, Sample):
        return arrival
    grade: Grade = "bad" if arrival.pixels is None else "good"
    reason: Reason = "unreadable" if arrival.pixels is None else ""
    return Sample(arrival.signal, arrival.value, arrival.at, arrival.arrived, grade, reason)


def _print_troubles(troubles: dict[str, str]) -> None:
    for part, words in troubles.items():
        print(f"source {part}: {words or 'well'}")


async def _ask(socket: Path, model: FedModel, values: Values) -> bool:
    slot = SlotClient(socket)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            listed = model.manifest
            said = await slot.ask(listed.model, listed.version, model.tensor, values)
    except (FeedFault, TimeoutError) as error:
        print(f"the slot does not answer: {error}")
        return False
    finally:
        slot.close()
    shown = ", ".join(f"{name} {numbers}" for name, (_, numbers) in said.outputs.items())
    print(f"{listed.model} {listed.version} answers ({said.quality}): {shown}")
    return True


def show(options: argparse.Namespace) -> int:
    """0 when every feed asks its model and all its parts work."""
    loaded = load_feeds(options.dir)
    well = True
    for name, settings in loaded.settings.feeds.items():
        status = _status(loaded, name)
        if status is None:
            print(f"{name}: does not run (slot {settings.slot})")
            well = False
            continue
        model = f"{status.model} {status.version}" if status.model else status.refusal
        print(f"{name}: slot {status.slot}, {model}, {time.time() - status.at:.0f} s ago")
        for what, parts in (("source", status.sources), ("sink", status.sinks)):
            for part, stands in parts.items():
                counts = ", ".join(f"{count} {word}" for word, count in stands.counts.items())
                print(f"  {what} {part}: {stands.trouble or 'well'} {counts}".rstrip())
                well = well and not stands.trouble
        for signal in status.signals:
            value = "–" if signal.value is None else f"{signal.value:.6g}"
            reason = f" ({signal.reason})" if signal.reason else ""
            print(f"  {signal.feature} {value} {signal.unit} {signal.quality}{reason}")
        for signal_name, count in status.dropped.items():
            print(f"  {count} samples of {signal_name} dropped: the feed is too slow for them")
        well = well and not status.refusal
    return 0 if well else 1


def _status(loaded: Config, name: str) -> FeedStatus | None:
    path = live.status_path(loaded.run_dir, name)
    try:
        return live.read(loaded.run_dir, name)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def record(options: argparse.Namespace) -> int:
    """0 when something was recorded and every source works."""
    loaded = load_feeds(options.dir)
    began = time.monotonic()
    written = 0
    count = 0
    with options.file.open("xb") as file:

        def take(arrivals: Sequence[Arrival]) -> bool:
            nonlocal written, count
            for arrival in arrivals:
                written += file.write(recording.line_of(arrival, began))
                count += isinstance(arrival, Sample)
            return bool(written < recording.BYTES_MAX)

        troubles = asyncio.run(commissioning.listen(loaded, options.feed, options.seconds, take))
    _print_troubles(troubles)
    print(f"{count} samples are in {options.file}")
    return 0 if count and not any(troubles.values()) else 1


def replay(options: argparse.Namespace) -> int:
    """0 when every row could be asked."""
    loaded = load_feeds(options.dir)
    settings = commissioning.settings_of(loaded, options.feed)
    manifest = commissioning.manifest_of(loaded, settings.slot, options.manifest)
    if manifest is None:
        raise ConfigError(f"no model runs in slot {settings.slot!r}: name a manifest (--manifest)")
    faults = refusals(manifest, tags_of(settings))
    if faults:
        raise ConfigError("; ".join(faults))
    if manifest.features is msgspec.UNSET:
        raise ConfigError(
            f"{manifest.model} {manifest.version} takes pictures: there is no recording"
        )
    assembler = Assembler(manifest)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["seconds", *_columns(manifest), "quality", "reason", "signals"])
    skipped = 0
    with options.file.open("rb") as file:
        for after, row in recording.rows(recording.read(iter(file), str(options.file)), assembler):
            skipped += row.values is None
            values = ("",) * len(list(_columns(manifest))) if row.values is None else row.values
            out.writerow([f"{after:.3f}", *values, row.grade, row.reason, " ".join(row.signals)])
    return 1 if skipped else 0


def _columns(manifest: Manifest) -> Iterator[str]:
    """Names of the numbers of a row, in their order."""
    assert manifest.features is not msgspec.UNSET, "refusals come first"
    window = manifest.window
    samples = 1
    if manifest.features[0].statistic == "each" and window is not msgspec.UNSET:
        samples = 1 if window.samples is msgspec.UNSET else window.samples
    for number in range(samples):
        for feature in manifest.features:
            yield feature.name if samples == 1 else f"{feature.name}[{number}]"
