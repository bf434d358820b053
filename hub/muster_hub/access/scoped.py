"""Rows that a scope narrows by model and selector, a page at a time.

A scope's selector can't be told in the database's words, so few columns of many rows are looked
through, and only the rows of the page are read whole.
"""

import functools
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select
from sqlmodel import Session

from muster_hub.access.scope import Scope

ROWS_AT_ONCE = 500


def within(
    session: Session, query: Select[int | None, str, str], scope: Scope, limit: int
) -> list[int]:
    """The first ``limit`` ids of (id, model, selector) that a scope covers, in their order."""
    if scope.everything:
        query = query.limit(limit)
    covers = functools.cache(scope.covers)
    found: list[int] = []
    for number, model, selector in session.connection().execute(query).yield_per(ROWS_AT_ONCE):
        if number is not None and scope.has_model(model) and covers(selector):
            found.append(number)
        if len(found) == limit:
            break
    return found


def device(scope: Scope, shown: dict[str, Any]) -> dict[str, Any]:
    """A device as it is shown, without what it says of models out of scope: their slots, and what
    it holds of their metadata."""
    if not scope.models:
        return shown
    report = shown["report"]
    slots = dict((report or {}).get("slots") or {})
    sides: list[Mapping[str, Any]] = [shown["desired"], shown["running"], shown["proved"], slots]
    hidden = {
        slot
        for side in sides
        for slot, item in side.items()
        if not all(map(scope.has_model, _models_in(item)))
    }
    kept = [{slot: item for slot, item in side.items() if slot not in hidden} for side in sides]
    if report is not None:
        trust = {
            name: _of_scope(scope, value) if isinstance(value, Mapping) else value
            for name, value in (report.get("trust") or {}).items()
        }
        report = dict(report) | {"slots": kept[3], "trust": trust, "refusal_detail": ""}
    return shown | {"desired": kept[0], "running": kept[1], "proved": kept[2], "report": report}


def _models_in(item: Any) -> set[str]:
    """Every model that a slot names, at whatever depth."""
    if not isinstance(item, Mapping):
        return set()
    found = {item["model"]} if isinstance(item.get("model"), str) and item["model"] else set()
    return found.union(*(_models_in(value) for value in item.values()))


def _of_scope(scope: Scope, held: Mapping[str, Any]) -> dict[str, Any]:
    """By role of the catalogue: those of models out of scope left out."""
    return {
        role: value
        for role, value in held.items()
        if not role.startswith("model-") or scope.has_model(role.removeprefix("model-"))
    }
