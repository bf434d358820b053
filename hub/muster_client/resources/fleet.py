"""The assignments, rollouts and settings of feeds there should be, beside those there are: what is
to do for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, assert_never

import msgspec
from msgspec import Meta, Struct

from muster_client.transport import Api, part
from muster_protocol.wire import limits

Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]
Item = Mapping[str, Any]
ASSIGNMENTS = "/assignments"
GOING = frozenset({"running", "paused", "completed"})
"""States of a rollout after which the file asks for nothing more."""


class Assigned(Struct, frozen=True, forbid_unknown_fields=True):
    """An assignment as a fleet file writes it."""

    model: Name
    version: Name
    slot: Name = "main"
    selector: str = ""
    precedence: int | None = None
    window_seconds: float | None = None


class FeedValues(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a feed as a fleet file writes them."""

    name: Name
    feed: Name
    settings: Annotated[
        dict[str, str | int | float | bool],
        Meta(min_length=1, max_length=limits.FEED_SETTINGS_MAX),
    ]
    selector: str = ""


@dataclass(frozen=True)
class Fleet:
    """Selectors are in the hub's own spelling."""

    assignments: tuple[Assigned, ...] = ()
    rollouts: tuple[Item, ...] = ()
    feeds: tuple[FeedValues, ...] = ()


@dataclass(frozen=True)
class Change:
    """One thing to do; ``kind`` ``keep`` is nothing, and ``why`` says so."""

    kind: Literal["add", "change", "remove", "start", "keep"]
    what: str
    was: str = ""
    now: str = ""
    why: str = ""
    path: str = ""
    """Where the API does it."""
    body: Item | None = None
    """For the API."""
    devices: int | None = None
    """That it concerns as the fleet is now; None: not counted."""


def compare(
    fleet: Fleet,
    assignments: Iterable[Item],
    rollouts: Iterable[Item],
    feeds: Iterable[Item] = (),
    *,
    prune: bool,
) -> list[Change]:
    """What makes the hub as the file says. ``rollouts`` are the hub's, the newest first.

    With ``prune`` what was assigned by hand in a slot the file names, and is not in the file, goes,
    and so do settings of feeds that it names.
    """
    there = {(assignment["slot"], assignment["selector"]): assignment for assignment in assignments}
    changes = [
        _assignment(assignment, there.get(key_of(assignment))) for assignment in fleet.assignments
    ]
    if prune:
        slots = {assignment.slot for assignment in fleet.assignments}
        wanted = {key_of(assignment) for assignment in fleet.assignments}
        changes += [
            Change(
                "remove",
                _title(*key),
                was=f"{item['model']} {item['version']}",
                path=f"{ASSIGNMENTS}/{item['id']}",
            )
            for key, item in there.items()
            if item["slot"] in slots and key not in wanted and item["rollout"] is None
        ]
    changes += _feeds(fleet.feeds, {item["name"]: item for item in feeds}, prune=prune)
    newest: dict[tuple[str, ...], Item] = {}
    for rollout in rollouts:
        newest.setdefault(rollout_key_of(rollout), rollout)
    return changes + [
        _start(rollout, newest.get(rollout_key_of(rollout))) for rollout in fleet.rollouts
    ]


def _assignment(asked: Assigned, there: Item | None) -> Change:
    body = {**msgspec.to_builtins(asked), "selector": asked.selector}
    what, now = _title(asked.slot, asked.selector), _assignment_in_words(body)
    if there is None:
        return Change("add", what, now=now, path=ASSIGNMENTS, body=body)
    kept = asked.precedence is None or asked.precedence == there["precedence"]
    same = all(body[name] == there[name] for name in ("model", "version", "window_seconds"))
    if kept and same:
        return Change("keep", what, was=now, now=now, why="as it should be")
    # A precedence that the file leaves open stays as it is: no part of the difference.
    was = _assignment_in_words({**there, "precedence": None} if asked.precedence is None else there)
    return Change("change", what, was=was, now=now, path=ASSIGNMENTS, body=body)


def _feeds(asked: Iterable[FeedValues], there: Mapping[str, Item], *, prune: bool) -> list[Change]:
    wanted = {values.name: values for values in asked}
    changes = [_feed(values, there.get(name)) for name, values in wanted.items()]
    named = {values.feed for values in wanted.values()}
    if prune:
        changes += [
            Change(
                "remove", _feed_title(item), was=_settings(item["settings"]), path=_feed_path(name)
            )
            for name, item in there.items()
            if item["feed"] in named and name not in wanted
        ]
    return changes


def _feed(asked: FeedValues, there: Item | None) -> Change:
    body = msgspec.to_builtins(asked)
    what, now = _feed_title(body), _settings(asked.settings)
    path = _feed_path(body.pop("name"))
    if there is None:
        return Change("add", what, now=now, path=path, body=body)
    was = _settings(there["settings"])
    if (there["feed"], there["selector"]) != (asked.feed, asked.selector):
        was = f"{was} ({there['feed']} on {there['selector'] or 'all devices'})"
    if was == now:
        return Change("keep", what, was=now, now=now, why="as it should be")
    return Change("change", what, was=was, now=now, path=path, body=body)


def _feed_title(item: Item) -> str:
    return f"{item['name']} for the feed {item['feed']} on {item['selector'] or 'all devices'}"


def _feed_path(name: str) -> str:
    return f"/feed-settings/{part(name)}"


def _settings(values: Item) -> str:
    """Each with its value: 502 and 502.0 are one number, true is another thing than 1."""
    return ", ".join(
        f"{path} = {msgspec.json.encode(_plain(values[path])).decode()}" for path in sorted(values)
    )


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _start(asked: Item, newest: Item | None) -> Change:
    what = f"rollout of {asked['model']} {asked['version']} in {_place(asked)}"
    if newest is None:
        return Change("start", what, now="started", path="/rollouts", body=asked)
    state, number = newest["state"], newest["id"]
    why = f"rollout {number} is {state}"
    if state not in GOING:
        why += ": start another one by hand if it is meant to be tried again"
    return Change("keep", what, was=state, now=state, why=why)


def key_of(assigned: Assigned) -> tuple[str, str]:
    """What makes two assignments the same: slot and selector."""
    return assigned.slot, assigned.selector


def rollout_key_of(item: Item) -> tuple[str, ...]:
    """What makes two rollouts the same: version, slot and selector."""
    return item["model"], item["version"], item["slot"], item["selector"]


def _title(slot: str, selector: str) -> str:
    return f"assignment in {_place({'slot': slot, 'selector': selector})}"


def _place(item: Item) -> str:
    return f"{item['slot']} on {item['selector'] or 'all devices'}"


def _assignment_in_words(item: Item) -> str:
    parts = [f"{item['model']} {item['version']}"]
    if item["precedence"] is not None:
        parts.append(f"precedence {item['precedence']}")
    if item["window_seconds"] is not None:
        parts.append(f"windows of {item['window_seconds']:g} s")
    return ", ".join(parts)


def changes(api: Api, fleet: Fleet, *, prune: bool) -> list[Change]:
    """``compare`` with what the hub has; what it would refuse of all this is refused here, before
    anything is done."""
    feeds = api.pages("/feed-settings") if fleet.feeds else ()
    found = compare(fleet, api.pages(ASSIGNMENTS), api.pages("/rollouts"), feeds, prune=prune)
    return [_counted(api, change) for change in found]


def _counted(api: Api, change: Change) -> Change:
    match change.kind:
        case "start" | "add" | "change":
            planned = api.post(f"{change.path}/plan", change.body)
            return replace(change, devices=planned["devices"])
        case "keep" | "remove":
            return change
        case _:
            assert_never(change.kind)


def make(api: Api, due: Iterable[Change]) -> None:
    """Make each change, in order; what is to be kept is left alone."""
    for change in due:
        match change.kind:
            case "keep":
                continue
            case "start":
                api.post(change.path, change.body)
            case "remove":
                api.delete(change.path)
            case "add" | "change":
                assert change.body is not None
                api.put(change.path, change.body)
            case _:
                assert_never(change.kind)
