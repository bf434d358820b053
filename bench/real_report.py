"""The results of ``bench.real`` as tables and plots."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "docs" / "drift.md", ROOT / "bench" / "README.md")
CURVE, RULES = ROOT / "docs" / "drift-curve.svg", ROOT / "docs" / "drift-rules.svg"
COLOURS = ("#0b6e99", "#c4500b", "#2e7d32", "#8e24aa", "#b71c1c", "#5d4037", "#00838f", "#827717")
LEVELS = ("level 0.25 σ", "level 0.5 σ", "level 1 σ", "level 2 σ", "level 4 σ")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 60, 250, 24, 48
OPENINGS_SHOWN_MIN, OPENINGS_SHOWN_MAX = 0.1, 1000.0


def table(results: dict[str, Any]) -> Iterator[str]:
    """Of every group and rule."""
    yield (
        "| runs | rule | openings per 1,000 normal windows | standing | events found anew | "
        "median delay, windows |"
    )
    yield "|---|---|---|---|---|---|"
    before = ""
    for row in results.get("rows", ()):
        name = row["group"] if row["group"] != before else ""
        before = row["group"]
        rule = f"**{row['rule']}**" if row["rule"] == "Muster" else row["rule"]
        if row["runs"] < row["of_runs"]:
            rule += f" ({row['runs']} of {row['of_runs']} runs)"
        found = f"{row['found']} of {row['events']}" if row["events"] else "–"
        delay = "–" if row["median_delay"] is None else f"{row['median_delay']:g}"
        yield (
            f"| {name} | {rule} | {row['openings_per_1000']:.2f} ({row['openings']} of "
            f"{row['normal_windows']:,}) | {row['standing']:.1%} | {found} | {delay} |"
        )


def lives(results: dict[str, Any]) -> Iterator[str]:
    runs = results.get("runs", ())
    agreed, windows = sum(run["agreed"] for run in runs), sum(run["windows"] for run in runs)
    done = [run for run in runs if run["calibrated_after_windows"] is not None]
    hours = sorted(run["calibrated_after_windows"] * run["window_seconds"] / 3600 for run in done)
    most = max((run["bytes_per_feature"] for run in runs), default=0.0)
    wide = min((run["bytes_per_feature"] for run in runs), default=0.0)
    if runs:
        yield (
            f"{len(runs)} runs. Device and hub agreed in {agreed:,} of {windows:,} windows. All "
            f"features were calibrated in {len(done)} runs, after {hours[len(hours) // 2]:.1f} "
            f"hours in the middle one and {hours[-1]:.1f} in the last. A summary took {wide:.0f} "
            f"to {most:.0f} bytes a feature (the fewer features, the more its head counts)."
        )


def faults(results: dict[str, Any]) -> Iterator[str]:
    curve = results.get("faults", {}).get("curve", ())
    signals = list(dict.fromkeys(row["signal"] for row in curve))
    names = list(dict.fromkeys(row["fault"] for row in curve))
    found = {(row["signal"], row["fault"]): row for row in curve}
    yield f"| fault | {' | '.join(signals)} |"
    yield "|---" * (len(signals) + 1) + "|"
    for name in names:
        cells = []
        for signal in signals:
            row = found.get((signal, name))
            if row is None:
                cells.append("–")
                continue
            within = row["within"]
            delay = "" if row["median_delay"] is None else f"; {row['median_delay']:g}"
            share = "/".join(str(within[limit]) for limit in ("3", "12", "60"))
            cells.append(f"{share} of {row['trials']}{delay}")
        yield f"| {name} | {' | '.join(cells)} |"


def young(results: dict[str, Any]) -> Iterator[str]:
    medians = results.get("faults", {}).get("young", {})
    if medians:
        delays = ", ".join(f"{delay:g} after {lived}" for lived, delay in medians.items())
        yield (
            "Median delay in windows of a shift of 1 σ, by the windows that the device had lived "
            f"before it (independent rows, 20 a window): {delays}."
        )


def write(results: dict[str, Any]) -> None:
    """Tables between markers of the pages, and the plots."""
    parts = {
        "real": [*table(results), "", *lives(results)],
        "real faults": [*faults(results), "", *young(results)],
    }
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name, lines in parts.items():
            begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
            if begin in text:
                head, rest = text.split(begin)
                text = head + begin + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1]
        page.write_text(text, encoding="utf-8")
    if results.get("faults"):
        CURVE.write_text(_curve(results["faults"]["curve"]), encoding="utf-8")
    if results.get("rows"):
        RULES.write_text(_rules(results["rows"]), encoding="utf-8")


def _curve(curve: list[dict[str, Any]]) -> str:
    """Share of level shifts found within 12 windows, by size."""
    signals = list(dict.fromkeys(row["signal"] for row in curve))
    shapes = list(_axes("shift of one feature, in standard deviations", "found in 12 windows"))
    for place, name in enumerate(LEVELS):
        x = _x(place / (len(LEVELS) - 1))
        shapes.append(_text(x, HEIGHT - BOTTOM + 18, name.split()[1], "middle"))
    for place, signal in enumerate(signals):
        by_name = {row["fault"]: row for row in curve if row["signal"] == signal}
        points = [
            (_x(n / (len(LEVELS) - 1)), _y(row["within"]["12"] / max(row["trials"], 1)))
            for n, row in enumerate(map(by_name.get, LEVELS))
            if row is not None and row["trials"]
        ]
        colour = COLOURS[place % len(COLOURS)]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        shapes.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes.append(_legend(place, signal, colour))
    return _svg("Share of level shifts found within 12 windows, by their size", shapes)


def _rules(rows: list[dict[str, Any]]) -> str:
    """Each rule: false openings against events found, over all runs."""
    totals: dict[str, list[int]] = {}
    for row in rows:
        total = totals.setdefault(row["rule"], [0, 0, 0, 0])
        for place, name in enumerate(("openings", "normal_windows", "found", "events")):
            total[place] += row[name]
    shapes = list(_axes("openings per 1,000 normal windows", "events found anew"))
    span = math.log10(OPENINGS_SHOWN_MAX / OPENINGS_SHOWN_MIN)
    for power in range(-1, 4):
        x = _x((power + 1) / span)
        shapes.append(_text(x, HEIGHT - BOTTOM + 18, f"{10.0**power:g}", "middle"))
    for place, (rule, (openings, normal, found, events)) in enumerate(totals.items()):
        rate = max(1000 * openings / max(normal, 1), OPENINGS_SHOWN_MIN)
        x, y = _x(math.log10(rate / OPENINGS_SHOWN_MIN) / span), _y(found / max(events, 1))
        colour = COLOURS[place % len(COLOURS)]
        shapes.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="6" fill="{colour}"/>')
        shapes.append(_legend(place, f"{rule} ({found} of {events})", colour))
    return _svg("False openings and events found, over all runs: up and left is better", shapes)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _axes(x: str, y: str) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield (
            f'<line x1="{LEFT}" x2="{_x(1):.0f}" y1="{_y(share):.0f}" y2="{_y(share):.0f}" '
            'stroke="#ccc"/>'
        )
        yield _text(LEFT - 6, _y(share) + 4, f"{share:.0%}", "end")
    yield _text((LEFT + _x(1)) / 2, HEIGHT - 8, x, "middle")
    yield _text(LEFT, TOP - 8, y, "start")


def _legend(place: int, name: str, colour: str) -> str:
    y = TOP + 20 * place + 8
    x = WIDTH - RIGHT + 16
    return f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colour}"/>' + _text(
        x + 12, y, name, "start"
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, shapes: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>' + "".join(shapes) + "</svg>\n"
    )
