"""Selectors as conditions of the database, so that a page of ten thousand devices is one query."""

from collections.abc import Sequence
from typing import Any, assert_never

from sqlalchemy import ColumnElement, SQLColumnExpression, Text, and_, cast, func, or_, true
from sqlmodel import col, select

from muster_hub.storage.models import Device
from muster_protocol.wire.selectors import Part, Selector


def matching(selector: Selector) -> ColumnElement[bool]:
    """Holds for rows of ``device`` exactly where the selector matches their labels, those that were
    deleted left out."""
    return and_(col(Device.deleted).is_(None), *(_part(part) for part in selector.parts))


def holding(text: str) -> ColumnElement[bool]:
    """Holds for devices whose id, or labels as they are written, hold a text in any case."""
    wanted, labels = text.lower(), cast(col(Device.labels), Text())
    return or_(
        func.lower(col(Device.id)).contains(wanted, autoescape=True),
        func.lower(labels).contains(wanted, autoescape=True),
    )


def devices(selector: Selector) -> Any:
    """The query for the ids of devices that match, to be used with ``in_``."""
    return select(Device.id).where(matching(selector))


def of_models(column: SQLColumnExpression[Any], patterns: Sequence[str]) -> ColumnElement[bool]:
    """Holds where a column names one of these models, ``*`` at an end standing for any rest; for no
    patterns at all, everywhere."""
    if not patterns:
        return true()
    return or_(
        *(
            column.startswith(pattern[:-1], autoescape=True)
            if pattern.endswith("*")
            else column == pattern
            for pattern in patterns
        )
    )


def _part(part: Part) -> ColumnElement[bool]:
    value: ColumnElement[str] = col(Device.labels)[part.key].as_string()
    match part.operator:
        case "in":
            return value.in_(part.values)
        case "notin":
            return or_(value.is_(None), value.not_in(part.values))
        case "exists":
            return value.is_not(None)
        case "absent":
            return value.is_(None)
        case _:
            assert_never(part.operator)
