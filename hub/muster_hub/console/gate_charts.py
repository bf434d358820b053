"""A gate's evidence as a picture: each look's effect and interval, between what is tolerated and
what would stop it. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 640.0, 190.0, 52.0, 26.0, 10.0, 10.0
HARM_MIN_SHOWN = 0.05
TICKS = 4


def gate_chart(picture: Mapping[str, Any]) -> Markup:
    """One metric over the looks of a wave; ``picture`` as a ``MetricPicture``, in plain values."""
    points: list[dict[str, Any]] = picture["points"]
    unit, margin = str(picture["unit"]), float(picture["margin"])
    if not points:
        return Markup("")
    low, high = _range(points, margin)
    last, first = int(points[-1]["look"]), int(points[0]["look"])
    first = min(first, last - 1)
    inner = WIDTH - LEFT - RIGHT

    def x(look: int) -> float:
        return LEFT + 12 + (inner - 24) * (look - first) / (last - first)

    def y(harm: float) -> float:
        clipped = min(max(harm, low), high)
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - clipped) / (high - low)

    parts = [*_axis(low, high, unit, y), _tolerated(margin, low, y), *_stopping(points, high, x, y)]
    for point in points:
        parts.append(
            Markup(
                '<line class="interval" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>'
            ).format(x(point["look"]), y(point["low"]), y(point["high"]))
        )
        parts.append(
            Markup(
                '<circle class="point" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>'
            ).format(x(point["look"]), y(point["harm"]), in_words(point, unit))
        )
    parts += [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">look {}</text>').format(
            x(look), HEIGHT - 8, look
        )
        for look in sorted({points[0]["look"], last})
    ]
    looks = "1 look" if len(points) == 1 else f"{len(points)} looks"
    label = f"{picture['metric']} at {looks}; the last: {in_words(points[-1], unit)}"
    return Markup(
        '<svg class="gate" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, label, Markup("").join(parts))


def in_words(point: Mapping[str, Any], unit: str) -> str:
    """Value, interval and counts of a look."""
    found = f"{effect(point['harm'], unit)} ({effect(point['low'], unit)} to "
    return (
        f"look {point['look']}: {found}{effect(point['high'], unit)}), {point['devices']} devices "
        f"with it, {point['controls']} without"
    )


def effect(harm: float | None, unit: str) -> str:
    """Harm in the metric's own words: a factor, points of a share, or a difference."""
    if harm is None:
        return "–"
    if unit == "ratio":
        return f"{math.exp(min(harm, 20.0)):.2f}×"
    return f"{100 * harm:+.1f} points" if unit == "points" else f"{harm:+.3g}"


def _range(points: Sequence[Mapping[str, Any]], margin: float) -> tuple[float, float]:
    """What is shown: the later looks whole; the first ones, that know little, may be cut off."""
    late = points[len(points) // 3 :]
    values = [margin, 0.0, *(point["harm"] for point in points)]
    values += [point[side] for point in late for side in ("low", "high")]
    values += [point["stop_at"] for point in late[-1:] if point["stop_at"] is not None]
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, HARM_MIN_SHOWN)
    return low - room, high + room


def _axis(low: float, high: float, unit: str, y: Any) -> list[Markup]:
    step = (high - low) / TICKS
    lines = []
    for number in range(TICKS + 1):
        harm = low + step * number
        lines.append(
            Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                LEFT - 6, y(harm) + 4, effect(harm, unit).removesuffix(" points")
            )
        )
    lines.append(
        Markup('<line class="nothing" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            LEFT, WIDTH - RIGHT, y(0.0), y(0.0)
        )
    )
    return lines


def _tolerated(margin: float, low: float, y: Any) -> Markup:
    return Markup(
        '<rect class="tolerated" x="{0}" y="{1:.1f}" width="{2}" height="{3:.1f}"/>'
        '<line class="margin" x1="{0}" x2="{4}" y1="{1:.1f}" y2="{1:.1f}"/>'
    ).format(LEFT, y(margin), WIDTH - LEFT - RIGHT, y(low) - y(margin), WIDTH - RIGHT)


def _stopping(points: Sequence[Mapping[str, Any]], high: float, x: Any, y: Any) -> list[Markup]:
    line = [
        (x(point["look"]), y(point["stop_at"]))
        for point in points
        if point["stop_at"] is not None and point["stop_at"] <= high
    ]
    if len(line) == 1:
        line.append((WIDTH - RIGHT, line[0][1]))
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in line)
    return [Markup('<polyline class="stopping" points="{}"/>').format(path)] if line else []
