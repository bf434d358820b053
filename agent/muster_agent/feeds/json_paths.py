"""Values in JSON messages, by paths such as ``values[0].v``. Pure."""

import math
import re
from datetime import UTC, datetime

import msgspec

_PART = re.compile(r"[^.\[\]]+|\[\d+\]")
_MILLISECONDS_FROM = 1e11
"""Seconds would be the year 5138: such a number counts milliseconds."""


class NotThereError(LookupError):
    """The message has nothing at this path; the words say how far it goes."""


def parse(payload: bytes) -> object:
    """A message as JSON; raises NotThereError with words when it is none."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotThereError(f"no JSON: {error}") from None


def find(value: object, path: str) -> object:
    """What stands at a path; raises NotThereError."""
    for part in _PART.findall(path):
        if part.startswith("["):
            index = int(part[1:-1])
            if not isinstance(value, list) or index >= len(value):
                raise NotThereError(f"no {part} of {path}")
            value = value[index]
        else:
            if not isinstance(value, dict) or part not in value:
                known = (
                    f"; there are {', '.join(list(value)[:8])}" if isinstance(value, dict) else ""
                )
                raise NotThereError(f"no {part!r} of {path}{known}")
            value = value[part]
    return value


def time_of(value: object) -> float:
    """Seconds since 1970 of a time as messages spell it; raises NotThereError.

    A text without a zone is UTC.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value / 1000 if abs(value) >= _MILLISECONDS_FROM else float(value)
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise NotThereError(f"{value!r:.40} is no time") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
