"""Pictures as SVG, drawn here so that a page needs no script and no inline style. Pure.

Colours come from the stylesheet by class, so that pictures are light and dark like the page.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from muster_hub.console.gate_charts import gate_chart

Point = tuple[float, float]
WIDTH, HEIGHT = 640.0, 160.0
SPARK_WIDTH, SPARK_HEIGHT = 100.0, 20.0
SERIES_MAX = 6
"""More can't be told apart; the rest are summed up by the caller."""


def bar(parts: Sequence[tuple[str, int]], title: str) -> Markup:
    """Shares of a whole side by side; each part has a tone and a count."""
    total = sum(count for _, count in parts)
    if not total:
        return Markup("")
    pieces, left = [], 0.0
    for tone, count in parts:
        width = 100.0 * count / total
        if count:
            pieces.append(
                Markup('<rect class="fill-{}" x="{:.2f}" y="0" width="{:.2f}" height="8"/>').format(
                    tone, left, max(width - 0.4, 0.6)
                )
            )
        left += width
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(title, Markup("").join(pieces))


def stacked(times: Sequence[float], series: Mapping[str, Sequence[float]], title: str) -> Markup:
    """Series over time, one on top of the other, the first at the bottom."""
    if len(times) < 2 or not series:
        return Markup("")
    sums = [sum(values[place] for values in series.values()) for place in range(len(times))]
    top = max(sums) or 1.0
    x, y = _scale(times[0], times[-1], WIDTH), _scale(0.0, top, HEIGHT, upward=True)
    below = [0.0] * len(times)
    areas = []
    for number, (name, values) in enumerate(list(series.items())[:SERIES_MAX]):
        above = [low + value for low, value in zip(below, values, strict=True)]
        edge = [(x(at), y(value)) for at, value in zip(times, above, strict=True)]
        back = [(x(at), y(value)) for at, value in zip(times, below, strict=True)][::-1]
        areas.append(
            Markup('<polygon class="series-{}" points="{}"><title>{}</title></polygon>').format(
                number, _points(edge + back), name
            )
        )
        below = above
    return _framed(Markup("").join(areas), title)


def line(points: Sequence[Point], title: str, band: tuple[float, float] | None = None) -> Markup:
    """One value over time, and the band it is expected in."""
    if len(points) < 2:
        return Markup("")
    values = [value for _, value in points] + list(band or ())
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    x = _scale(points[0][0], points[-1][0], WIDTH)
    y = _scale(low, high, HEIGHT, upward=True)
    inside = Markup("")
    if band is not None:
        inside = Markup('<rect class="band" x="0" y="{:.1f}" width="{}" height="{:.1f}"/>').format(
            y(band[1]), WIDTH, y(band[0]) - y(band[1])
        )
    path = _points([(x(at), y(value)) for at, value in points])
    inside += Markup('<polyline class="line" points="{}"/>').format(path)
    return _framed(inside, title)


def spark(values: Sequence[float], title: str) -> Markup:
    """A signal's latest values, as small as a word."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    x = _scale(0.0, len(values) - 1.0, SPARK_WIDTH)
    y = _scale(low, high, SPARK_HEIGHT, upward=True)
    path = _points([(x(float(place)), y(value)) for place, value in enumerate(values)])
    return Markup(
        '<svg class="spark" viewBox="-1 -1 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><polyline class="line" points="{}"/></svg>'
    ).format(SPARK_WIDTH + 2, SPARK_HEIGHT + 2, title, path)


def dependence(curve: Sequence[Mapping[str, float]], title: str) -> Markup:
    """A mean over an input's values, and the band in which most rows are."""
    if len(curve) < 2:
        return Markup("")
    low, high = min(at["low"] for at in curve), max(at["high"] for at in curve)
    low, high = min(low, *(at["mean"] for at in curve)), max(high, *(at["mean"] for at in curve))
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    x = _scale(curve[0]["at"], curve[-1]["at"], WIDTH)
    y = _scale(low, high, HEIGHT, upward=True)
    above = [(x(at["at"]), y(at["high"])) for at in curve]
    below = [(x(at["at"]), y(at["low"])) for at in reversed(curve)]
    inside = Markup(
        '<polygon class="band" points="{}"/><polyline class="line" points="{}"/>'
    ).format(_points(above + below), _points([(x(at["at"]), y(at["mean"])) for at in curve]))
    return _framed(inside, title)


def weight(importance: float, spread: float, largest: float, title: str) -> Markup:
    """A bar as long as an input's importance, with its spread as a line across the end."""
    across = _scale(0.0, largest, 90.0)
    end = min(max(across(importance), 0.0), 100.0)
    first = min(max(across(importance - spread), 0.0), 100.0)
    last = min(max(across(importance + spread), 0.0), 100.0)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" '
        'aria-label="{}"><rect class="series-0" x="0" y="0" width="{:.2f}" height="8"/>'
        '<rect class="series-5" x="{:.2f}" y="3" width="{:.2f}" height="2"/></svg>'
    ).format(title, end, first, max(last - first, 0.3))


def histogram(shares: Sequence[tuple[float, float]], title: str) -> Markup:
    """Two distributions over the same bins, side by side in each."""
    if not shares:
        return Markup("")
    top = max(max(pair) for pair in shares) or 1.0
    wide = WIDTH / len(shares)
    bars = []
    for place, pair in enumerate(shares):
        for side, (look, share) in enumerate(zip((5, 0), pair, strict=True)):
            high = HEIGHT * share / top
            bars.append(
                Markup(
                    '<rect class="series-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                ).format(look, wide * (place + 0.1 + 0.4 * side), HEIGHT - high, wide * 0.4, high)
            )
    return _framed(Markup("").join(bars), title)


def _framed(inside: Markup, title: str) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, title, inside)


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{across:.1f},{down:.1f}" for across, down in points)


def _scale(
    low: float, high: float, length: float, *, upward: bool = False
) -> Callable[[float], float]:
    span = high - low or 1.0

    def place(value: float) -> float:
        along = (value - low) / span * length
        return length - along if upward else along

    return place


CHARTS: Final[Mapping[str, Callable[..., Any]]] = {
    "bar": bar, "stacked": stacked, "line": line, "gate_chart": gate_chart,
    "histogram": histogram, "spark": spark, "dependence": dependence, "weight": weight,
}  # fmt: skip
"""By the name that templates use."""
