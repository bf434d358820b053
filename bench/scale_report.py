"""The tables and the plot of docs/scale.md, from ``results/scale.json``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import scale_model

ROOT = Path(__file__).parents[1]
PAGE, PLOT = ROOT / "docs" / "scale.md", ROOT / "docs" / "scale-curve.svg"
BEGIN, END = "<!-- scale: begin -->", "<!-- scale: end -->"
Value = Callable[[dict[str, Any]], Any]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 300, 60, 40, 30, 150
CURVES: tuple[tuple[str, str, Value], ...] = (
    ("rollout, hub: CPU-s per 1,000", "#1f6feb", lambda size: _per(size, "rollout", "hub")),
    ("connect, broker: CPU-s per 1,000", "#bf8700", lambda size: _per(size, "connect", "broker")),
    ("connect, hub: CPU-s per 1,000", "#1a7f37", lambda size: _per(size, "connect", "hub")),
    ("steady, hub: cores per 10,000", "#cf222e", lambda size: 10 * _cores(size)),
)


def write(result: dict[str, Any]) -> None:
    """Put the tables into the page and draw the plot."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(result)}\n{END}{after}")
    PLOT.write_text(plot([size for size in result["sizes"] if "steady" in size]))


def tables(result: dict[str, Any]) -> str:
    sizes = [size for size in result["sizes"] if "steady" in size]
    burst = [size for size in result["sizes"] if "steady" not in size]
    machine = result["machine"]
    rows: list[tuple[str, Value]] = [
        ("all connected, s", lambda size: size["connect"]["devices_done_seconds"]),
        ("hub has a report of each, s", lambda size: size["connect"]["seconds"]),
        ("connect: hub / broker, CPU-s", lambda size: _both(size, "connect")),
        ("steady: hub / broker, cores", lambda size: (
            f"{size['steady']['hub_cores']} / {size['steady']['broker_cores']}")),
        ("steady: list p95 / write p95, ms", lambda size: _answers(size, "steady")),
        ("rollout: devices done, s", lambda size: size["rollout"]["devices_done_seconds"]),
        ("rollout: hub knows, s (× devices)", lambda size: (
            f"{size['rollout']['seconds']} ({size['rollout']['hub_knows_over_devices']})")),
        ("rollout: hub, CPU-s per 1,000", lambda size: size["rollout"]["hub_cpu_seconds_per_1000"]),
        ("rollout: list p95 / write p95, ms", lambda size: _answers(size, "rollout")),
        ("rows sent / kept / unacknowledged", lambda size: (
            f"{size['rows']['sent']:,} / {size['rows']['kept']:,} / "
            f"{size['rows']['unacknowledged']}")),
        ("alerts", lambda size: size["alerts"]),
        ("memory: hub / broker, MB", lambda size: (
            f"{size['memory_mb']['hub']:.0f} / {size['memory_mb']['broker']:.0f}")),
        ("rollout: the fleet's own share of a core", lambda size: (
            size["rollout"]["fleet_cpu_share"])),
    ]  # fmt: skip
    lines = [
        (
            f"{machine['cores']} cores, Python {machine['python']}, {machine['database']}; load of "
            f"other work when it began: {machine['load_before']}."
        ),
        "",
        "| | " + " | ".join(f"{size['devices']:,} devices" for size in sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]
    for what, value in rows:
        lines.append(f"| {what} | " + " | ".join(str(value(size)) for size in sizes) + " |")
    lines += ["", *(_burst(size) for size in burst)]
    lines += ["", "| number | wanted | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {held['what']} | {held['wanted']} | {held['measured']} | "
        f"{'met' if held['met'] else '**not met**'} |"
        for held in result["verdicts"]
    ]
    if ingest := result.get("ingest"):
        lines += [
            "",
            (
                f"PostgreSQL with durable commits, {ingest['processes']} processes on the same "
                f"cores: the hub {ingest['hub']:,} summaries/s, the same bytes by bare inserts "
                f"{ingest['raw insert']:,}/s, by COPY {ingest['raw copy']:,}/s."
            ),
        ]
    lines += ["", "### On paper", "", scale_model.table(sizes[-1], result.get("ingest"))]
    lines += ["", "| CPU-µs each, one window of eight features | |", "|---|---|"]
    lines += [f"| {what} | {spent} |" for what, spent in result["limits"].items()]
    return "\n".join(lines)


def _burst(size: dict[str, Any]) -> str:
    """A fleet that connects and is updated once, in a sentence."""
    killed, rows = size["broker killed"], size["rows"]
    connected = size["connect"]["devices_done_seconds"]
    return (
        f"{size['devices']:,} devices: all connected after {connected} s; updated once with the "
        f"broker killed half-way: all back {killed['all_back_seconds']} s later, "
        f"{killed['committed']:,} updated, {rows['sent']:,} rows sent and {rows['kept']:,} kept."
    )


def _cores(size: dict[str, Any]) -> float:
    """Of the hub in a steady state, for each thousand devices."""
    return float(1000 * size["steady"]["hub_cores"] / size["devices"])


def _per(size: dict[str, Any], phase: str, part: str) -> float:
    return float(1000 * size[phase][f"{part}_cpu_seconds"] / size["devices"])


def _both(size: dict[str, Any], phase: str) -> str:
    return f"{size[phase]['hub_cpu_seconds']} / {size[phase]['broker_cpu_seconds']}"


def _answers(size: dict[str, Any], phase: str) -> str:
    return f"{size[phase]['list_p95_ms']} / {size[phase]['write_p95_ms']}"


def plot(sizes: list[dict[str, Any]]) -> str:
    """Costs by the number of devices: flat is what they should be."""
    most = max(max(value(size) for size in sizes) for _, _, value in CURVES) * 1.1
    widest = max(size["devices"] for size in sizes)

    def place(devices: float, value: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * devices / widest
        return across, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / most

    shapes = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _, y = place(0, share * most)
        shapes += [
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share * most:.1f}</text>',
        ]
    for size in sizes:
        x, _ = place(size["devices"], 0)
        shapes.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
            f"{size['devices']:,}</text>"
        )
    for number, (name, colour, value) in enumerate(CURVES):
        points = [place(size["devices"], value(size)) for size in sizes]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        shapes.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        shapes.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{TOP + 16 * number + 10}" fill="{colour}" '
            f'font-size="9">{name}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="11" fill="#57606a">'
        "<title>What a device costs, by the number of devices</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="16">What a device costs, by the number of devices</text>'
        + "".join(shapes)
        + "</svg>\n"
    )
