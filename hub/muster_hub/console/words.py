"""Values as people read them: times, sizes, shares, states. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec
from markupsafe import Markup, escape

from muster_hub.console.gate_charts import effect

NOTHING = "–"
BRIEF_CHARS_MAX = 400
_UNITS = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
THOUSANDS = " "
"""A thin, unbreakable space between thousands."""


def duration(seconds: float | None) -> str:
    """A time span in its largest whole unit, such as ``3 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    for unit, size in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"


def ago(moment: float | None, now: float) -> Markup:
    """A moment (seconds since 1970) against now, with the exact time for who asks for it."""
    if moment is None:
        return Markup("–")
    span = now - moment
    text = "just now" if abs(span) < 1 else (
        f"{duration(span)} ago" if span > 0 else f"in {duration(-span)}"
    )  # fmt: skip
    exact = stamp(moment)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact.replace(" UTC", "Z").replace(" ", "T"), exact, text
    )


def stamp(moment: float | None) -> str:
    """A moment in full, in UTC."""
    if moment is None:
        return NOTHING
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return NOTHING


def size(count: float | None) -> str:
    """Bytes in the unit that keeps the number short."""
    if count is None:
        return NOTHING
    number = float(count)
    for unit in _SIZES:
        if abs(number) < 1024 or unit == _SIZES[-1]:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError("the last unit takes what is left")


def energy(joules: float) -> str:
    """Joules, as kWh once there are some."""
    kilowatt_hours = joules / 3.6e6
    return f"{kilowatt_hours:,.1f} kWh" if abs(kilowatt_hours) >= 1 else f"{number(joules)} J"


def whole(count: float | None) -> str:
    """A count with its thousands apart."""
    return NOTHING if count is None else f"{count:,.0f}".replace(",", THOUSANDS)


def share(part: float | None) -> str:
    """A share of one in per cent."""
    return NOTHING if part is None else f"{part:.1%}"


def number(value: float | None) -> str:
    """A measured number with as many digits as say something."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.4g}"


def plural(count: int, noun: str) -> str:
    """``1 device``, ``2 devices``."""
    many = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{whole(count)} {noun if count == 1 else many}"


def labels(pairs: Mapping[str, str]) -> Markup:
    """Labels as ``key=value``, each a chip."""
    return Markup(" ").join(
        Markup('<span class="label"><bdi>{}={}</bdi></span>').format(key, value)
        for key, value in sorted(pairs.items())
    )


def spaced(word: str) -> str:
    """A word of the protocol or the database for people: ``off_spec`` is ``off spec``."""
    return word.replace("_", " ").replace("-", " ")


TONES: Final[Mapping[str, str]] = {
    "converged": "good", "online": "good", "ok": "good", "committed": "good", "completed": "good",
    "published": "good", "signed": "good", "calibrated": "good", "advance": "good",
    "resolved": "good", "delivered": "good", "closed": "good", "succeeded": "good",
    "under_way": "busy",
    "updating": "busy", "running": "busy", "in_progress": "busy", "targeted": "busy",
    "checking": "busy", "uploaded": "busy", "checked": "busy", "fetching": "busy",
    "verifying": "busy", "starting": "busy", "probation": "busy", "calibrating": "busy",
    "training": "busy",
    "waiting": "wait", "paused": "wait", "staged": "wait", "wait": "wait", "warning": "wait",
    "wanted": "wait", "signing": "wait", "rollout": "wait",
    "awaiting_approval": "wait", "awaiting_signatures": "wait", "acknowledged": "wait",
    "check_function": "wait", "maintenance_required": "wait", "off_spec": "wait",
    "refused": "bad", "failed": "bad", "unhealthy": "bad", "failure": "bad", "stopped": "bad",
    "rejected": "bad", "critical": "bad", "open": "bad", "drifting": "bad", "stop": "bad",
    "rolling_back": "bad", "rolled_back": "bad", "aborted": "bad", "taken_back": "bad",
    "abandoned": "bad",
    "good": "good", "uncertain": "wait", "bad": "bad",
}  # fmt: skip
"""How a state looks: the word always stands beside the colour."""


def state(word: str, text: str = "") -> Markup:
    """A state as a mark and its word."""
    tone = TONES.get(word, "calm")
    return Markup('<span class="state {}">{}</span>').format(tone, escape(text or spaced(word)))


def tones(stands: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Counts by state as counts by look, for a bar."""
    return [(TONES.get(word, "calm"), count) for word, count in stands]


def listed(stands: Sequence[tuple[str, int]]) -> str:
    """Counts by state in words."""
    return ", ".join(f"{count} {spaced(word)}" for word, count in stands)


def brief(detail: Mapping[str, Any]) -> str:
    """A row's details in a line."""
    text = msgspec.json.encode(detail).decode()
    return "" if text == "{}" else text[:BRIEF_CHARS_MAX]


def segment(name: str) -> str:
    """A name as a part of an address."""
    return quote(name, safe="")


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "duration": duration, "ago": ago, "stamp": stamp, "size": size, "energy": energy,
    "whole": whole, "share": share, "number": number, "plural": plural, "labels": labels,
    "spaced": spaced, "brief": brief, "effect": effect, "state": state, "segment": segment,
    "tones": tones, "listed": listed,
    "tone": lambda word: TONES.get(word, "calm"),
}  # fmt: skip
"""By the name that templates use."""
