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
        documents = [item for item in yaml.safe_load_all(text) if item is not None]
        parts = [msgspec.convert(document, Part) for document in documents]
        rollouts = [_rollout(rollout) for part in parts for rollout in part.rollouts]
        assigned = [_spelt(assignment) for part in parts for assignment in part.assignments]
        fleet = Fleet(tuple(assigned), tuple(rollouts))
    except yaml.YAMLError as error:
        raise OperatorError(f"{name}: {error}", Exit.USAGE) from None
    except (msgspec.ValidationError, selectors.SelectorError) as error:
        hint = " (put it in quotes)" if "Expected `str`, got `" in str(error) else ""
        raise OperatorError(f"{name}: {error}{hint}", Exit.USAGE) from None
    _refuse_twice((_key(assignment) for assignment in fleet.assignments), name, "assignments")
    _refuse_twice((_rollout_key(rollout) for rollout in fleet.rollouts), name, "rollouts")
    return fleet


def compare(
    fleet: Fleet, assignments: Iterable[Item], rollouts: Iterable[Item], *, prune: bool
) -> list[Change]:
    """What makes the hub as the file says. ``rollouts`` are the hub's, the newest first.

    With ``prune`` what was assigned by hand in a slot the file names, and is not in the file, goes.
    """
    there = {(assignment["slot"], assignment["selector"]): assignment for assignment in assignments}
    changes = [
        _assignment(assignment, there.get(_key(assignment))) for assignment in fleet.assignments
    ]
    if prune:
        slots = {assignment.slot for assignment in fleet.assignments}
        wanted = {_key(assignment) for assignment in fleet.assignments}
        changes += [
            Change(
                "remove", _title(*key), was=f"{item['model']} {item['version']}", number=item["id"]
            )
            for key, item in there.items()
            if item["slot"] in slots and key not in wanted and item["rollout"] is None
        ]
    newest: dict[tuple[str, ...], Item] = {}
    for rollout in rollouts:
        newest.setdefault(_rollout_key(rollout), rollout)
    return changes + [
        _start(rollout, newest.get(_rollout_key(rollout))) for rollout in fleet.rollouts
    ]


def _assignment(asked: Assigned, there: Item | None) -> Change:
    body = {**msgspec.to_builtins(asked), "selector": asked.selector}
    what, now = _title(asked.slot, asked.selector), _assignment_in_words(body)
    if there is None:
        return Change("add", what, now=now, body=body)
    kept = asked.precedence is None or asked.precedence == there["precedence"]
    same = all(body[name] == there[name] for name in ("model", "version", "window_seconds"))
    if kept and same:
        return Change("keep", what, was=now, now=now, why="as it should be")
    # A precedence that the file leaves open stays as it is: no part of the difference.
    was = _assignment_in_words({**there, "precedence": None} if asked.precedence is None else there)
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


def _spelt(assigned: Assigned) -> Assigned:
    return msgspec.structs.replace(assigned, selector=str(selectors.parse(assigned.selector)))


def _rollout(plan: Item) -> Item:
    named = msgspec.convert(plan, _Rollout)
    selector = str(selectors.parse(named.selector))
    return {**plan, "slot": named.slot, "selector": selector}


def _key(assigned: Assigned) -> tuple[str, str]:
    return assigned.slot, assigned.selector


def _rollout_key(item: Item) -> tuple[str, ...]:
    return item["model"], item["version"], item["slot"], item["selector"]


def _refuse_twice(keys: Iterable[tuple[str, ...]], name: str, what: str) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            named = ", ".join(part or "all" for part in key)
            raise OperatorError(f"{name}: {what}: {named} is there twice", Exit.USAGE)
        seen.add(key)


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
