"""A fleet as a YAML file: the assignments, rollouts and settings of feeds there should be."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

from muster_client.failures import WrongUsage
from muster_client.resources.fleet import (
    Assigned,
    FeedValues,
    Fleet,
    Item,
    Name,
    key_of,
    rollout_key_of,
)
from muster_client.resources.rollouts import parse_canary
from muster_protocol.wire import limits, selectors

Selected = TypeVar("Selected", Assigned, FeedValues)
FILE_BYTES_MAX = limits.MIB
ENTRIES_MAX = 1000


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """One YAML document."""

    assignments: Annotated[tuple[Assigned, ...], Meta(max_length=ENTRIES_MAX)] = ()
    rollouts: Annotated[tuple[dict[str, Any], ...], Meta(max_length=ENTRIES_MAX)] = ()
    feeds: Annotated[tuple[FeedValues, ...], Meta(max_length=ENTRIES_MAX)] = ()


class _Rollout(Struct, frozen=True):
    """What tells one rollout from another; the rest is the API's to judge."""

    model: Name
    version: Name
    slot: Name = "main"
    selector: str = ""


def read(file: Path) -> Fleet:
    """Read a file, or standard input for ``-``; raises WrongUsage naming file, place and cure."""
    if str(file) == "-":
        file = Path("standard input")
        data = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        return _decoded(file, data)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
    return _decoded(file, data)


def _decoded(file: Path, data: bytes) -> Fleet:
    if len(data) > FILE_BYTES_MAX:
        raise WrongUsage(f"{file}: over {FILE_BYTES_MAX} bytes, which is the limit")
    try:
        return parse(data.decode(), str(file))
    except UnicodeDecodeError:
        raise WrongUsage(f"{file}: not a text in UTF-8") from None


def parse(text: str, name: str) -> Fleet:
    """Read a file's documents; raises WrongUsage naming file, place and cure."""
    try:
        documents = [item for item in yaml.safe_load_all(text) if item is not None]
        parts = [msgspec.convert(document, Part) for document in documents]
        rollouts = [_rollout(rollout) for part in parts for rollout in part.rollouts]
        assigned = [_spelt(assignment) for part in parts for assignment in part.assignments]
        feeds = [_spelt(values) for part in parts for values in part.feeds]
        fleet = Fleet(tuple(assigned), tuple(rollouts), tuple(feeds))
    except yaml.YAMLError as error:
        raise WrongUsage(f"{name}: {error}") from None
    except (msgspec.ValidationError, selectors.SelectorError) as error:
        hint = " (put it in quotes)" if "Expected `str`, got `" in str(error) else ""
        raise WrongUsage(f"{name}: {error}{hint}") from None
    _refuse_twice((key_of(assignment) for assignment in fleet.assignments), name, "assignments")
    _refuse_twice((rollout_key_of(rollout) for rollout in fleet.rollouts), name, "rollouts")
    _refuse_twice(((values.name,) for values in fleet.feeds), name, "feeds")
    return fleet


def _spelt(item: Selected) -> Selected:
    return msgspec.structs.replace(item, selector=str(selectors.parse(item.selector)))


def _rollout(plan: Item) -> Item:
    named = msgspec.convert(plan, _Rollout)
    selector = str(selectors.parse(named.selector))
    spelt = {**plan, "slot": named.slot, "selector": selector}
    if isinstance(plan.get("canary"), str):  # As people write it (``10%``).
        spelt["canary"] = parse_canary(plan["canary"])
    return spelt


def _refuse_twice(keys: Iterable[tuple[str, ...]], name: str, what: str) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            named = ", ".join(part or "all" for part in key)
            raise WrongUsage(f"{name}: {what}: {named} is there twice")
        seen.add(key)
