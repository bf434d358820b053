"""Cursor pagination: ``?limit=&cursor=`` → ``{"items": […], "next": …}``.

A cursor is the key of the last item, so that pages neither skip nor repeat when rows are added.
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Path, Query, Response
from pydantic import BaseModel, Field

from muster_hub.errors import Invalid

PAGE_MAX = 500
KEY_CHARS_MAX = 128
NUMBER_MAX = 2**53 - 1
Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="Items on a page.")]
Cursor = Annotated[
    str | None, Query(max_length=KEY_CHARS_MAX, description="`next` of the page before.")
]
SelectorText = Annotated[
    str | None,
    Query(
        max_length=1024, examples=["site=berlin,line in (1,2)"],
        description="Only devices with these labels, or what concerns them.",
    ),
]  # fmt: skip
Number = Annotated[int, Path(ge=1, le=NUMBER_MAX)]
"""The number of a row in a path."""


class Page(BaseModel, Generic[Item]):
    """One page of a list, and the cursor of the next."""

    items: list[Item]
    next: str | None = Field(
        default=None, description="The cursor of the next page; null on the last."
    )


def number(cursor: str | None) -> int | None:
    """The numeric key that a cursor names; raises Invalid."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal()) or len(cursor) > 18:
        raise Invalid(f"cursor: {cursor!r} is not one that this list gave out")
    return int(cursor)


def sent(content: dict[str, Any]) -> Response:
    """A page as it goes out: lists are long, and what queries made needs no second look."""
    return Response(msgspec.json.encode(content), media_type="application/json")


def page(items: list[Any], limit: int, key: Callable[[Any], object]) -> dict[str, Any]:
    """A page of at most ``limit`` of ``items``, which were asked for one more than that."""
    more = len(items) > limit
    kept = items[:limit]
    return {"items": kept, "next": str(key(kept[-1])) if more else None}
