"""A fleet as a file: the assignments and rollouts there should be, and what is to do for it.

Pure: a file's text and the hub's lists in, changes out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from muster_client.failures import Exit, OperatorError
from muster_protocol.wire import limits, selectors

FILE_BYTES_MAX = limits.MIB
ENTRIES_MAX = 1000
Name = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]
Item = Mapping[str, Any]
GOING = frozenset({"running", "paused", "completed"})
"""States of a rollout after which the file asks for nothing more."""


class Assigned(Struct, frozen=True, forbid_unknown_fields=True):
    model: Name
    version: Name
    slot: Name = "main"
    selector: str = ""
    precedence: int | None = None
    window_seconds: float | None = None


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """One YAML document."""

    assignments: Annotated[tuple[Assigned, ...], Meta(max_length=ENTRIES_MAX)] = ()
    rollouts: Annotated[tuple[dict[str, Any], ...], Meta(max_length=ENTRIES_MAX)] = ()


class _Rollout(Struct, frozen=True):
    """What tells one rollout from another; the rest is the API's to judge."""

    model: Name
    version: Name
    slot: Name = "main"
    selector: str = ""


@dataclass(frozen=True)
class Fleet:
    """Selectors are in the hub's own spelling."""

    assignments: tuple[Assigned, ...] = ()
    rollouts: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Change:
    """One thing to do; ``kind`` ``keep`` is nothing, and ``why`` says so."""

    kind: Literal["add", "change", "remove", "start", "keep"]
    what: str
    was: str = ""
    now: str = ""
    why: str = ""
    body: Item | None = None
    """For the API."""
    number: int = 0
    """Of the assignment to remove."""


def parse(text: str, name: str) -> Fleet:
    """Read a file's documents; raises OperatorError naming file, place and cure."""
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
        parts = [msgspec.convert(one, Part) for one in documents]
        rollouts = [_rollout(one) for part in parts for one in part.rollouts]
        fleet = Fleet(tuple(_spelt(one) for part in parts for one in part.assignments),
                      tuple(rollouts))  # fmt: skip
    except yaml.YAMLError as error:
        raise OperatorError(f"{name}: {error}", Exit.USAGE) from None
    except (msgspec.ValidationError, selectors.SelectorError) as error:
        hint = " (put it in quotes)" if "Expected `str`, got `" in str(error) else ""
        raise OperatorError(f"{name}: {error}{hint}", Exit.USAGE) from None
    _refuse_twice((_key(one) for one in fleet.assignments), name, "assignments")
    _refuse_twice((_rollout_key(one) for one in fleet.rollouts), name, "rollouts")
    return fleet


def compare(
    fleet: Fleet, assignments: Iterable[Item], rollouts: Iterable[Item], *, prune: bool
) -> list[Change]:
    """What makes the hub as the file says. ``rollouts`` are the hub's, the newest first.

    With ``prune`` what was assigned by hand in a slot the file names, and is not in the file, goes.
    """
    there = {(one["slot"], one["selector"]): one for one in assignments}
    changes = [_assignment(one, there.get(_key(one))) for one in fleet.assignments]
    if prune:
        slots = {one.slot for one in fleet.assignments}
        wanted = {_key(one) for one in fleet.assignments}
        changes += [
            Change("remove", _title(*key), was=f"{one['model']} {one['version']}", number=one["id"])
            for key, one in there.items()
            if one["slot"] in slots and key not in wanted and one["rollout"] is None
        ]
    newest: dict[tuple[str, ...], Item] = {}
    for one in rollouts:
        newest.setdefault(_rollout_key(one), one)
    return changes + [_start(one, newest.get(_rollout_key(one))) for one in fleet.rollouts]


def _assignment(asked: Assigned, there: Item | None) -> Change:
    body = {**msgspec.to_builtins(asked), "selector": asked.selector}
    what, now = _title(asked.slot, asked.selector), _told(body)
    if there is None:
        return Change("add", what, now=now, body=body)
    kept = asked.precedence is None or asked.precedence == there["precedence"]
    same = all(body[name] == there[name] for name in ("model", "version", "window_seconds"))
    if kept and same:
        return Change("keep", what, was=now, now=now, why="as it should be")
    # A precedence that the file leaves open stays as it is: no part of the difference.
    was = _told({**there, "precedence": None} if asked.precedence is None else there)
    return Change("change", what, was=was, now=now, body=body)


def _start(asked: Item, newest: Item | None) -> Change:
    what = f"rollout of {asked['model']} {asked['version']} in {_place(asked)}"
    if newest is None:
        return Change("start", what, now="started", body=asked)
    state, number = newest["state"], newest["id"]
    why = f"rollout {number} is {state}"
    if state not in GOING:
        why += ": start another one by hand if it is meant to be tried again"
    return Change("keep", what, was=state, now=state, why=why)


def _spelt(one: Assigned) -> Assigned:
    return msgspec.structs.replace(one, selector=str(selectors.parse(one.selector)))


def _rollout(plan: Item) -> Item:
    named = msgspec.convert(plan, _Rollout)
    selector = str(selectors.parse(named.selector))
    return {**plan, "slot": named.slot, "selector": selector}


def _key(one: Assigned) -> tuple[str, str]:
    return one.slot, one.selector


def _rollout_key(one: Item) -> tuple[str, ...]:
    return one["model"], one["version"], one["slot"], one["selector"]


def _refuse_twice(keys: Iterable[tuple[str, ...]], name: str, what: str) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            told = ", ".join(part or "all" for part in key)
            raise OperatorError(f"{name}: {what}: {told} is there twice", Exit.USAGE)
        seen.add(key)


def _title(slot: str, selector: str) -> str:
    return f"assignment in {_place({'slot': slot, 'selector': selector})}"


def _place(one: Item) -> str:
    return f"{one['slot']} on {one['selector'] or 'all devices'}"


def _told(one: Item) -> str:
    parts = [f"{one['model']} {one['version']}"]
    if one["precedence"] is not None:
        parts.append(f"precedence {one['precedence']}")
    if one["window_seconds"] is not None:
        parts.append(f"windows of {one['window_seconds']:g} s")
    return ", ".join(parts)
