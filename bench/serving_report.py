"""The tables of serving in ``bench/README.md``, from the results."""

from typing import Any

from bench import serving_cost
from bench.signals_report import README, put

TITLES = {
    "isolated": "Muster, isolated",
    "not_isolated": "Muster, not isolated",
    "mlserver": "MLServer",
    "uvicorn": "plain uvicorn and ONNX Runtime",
}
MODELS = {"mlp": "a small network", "convolution": "a convolution of 5 MB"}
CLIENTS = (1, 4, 16)


def write(results: dict[str, Any]) -> None:
    """Replace what stands between the marks."""
    lines: list[str] = []
    for name, title in MODELS.items():
        if name in results:
            lines += table(title, results[name])
    lines += starts(results.get("starts"))
    put(README, "serving", lines + serving_cost.lines(results))


def table(title: str, part: dict[str, Any]) -> list[str]:
    measured = part["measured"]
    lines = [
        f"| {title}: requests a second, p50, p99 | format | 1 client | 4 clients | 16 clients |",
        "|---|---|---|---|---|",
    ]
    for form in ("json", "binary"):
        for server, name in TITLES.items():
            if f"{server} {form} 1" not in measured:
                continue
            cells = [cell(measured[f"{server} {form} {clients}"]) for clients in CLIENTS]
            way = "binary by gRPC" if (server, form) == ("mlserver", "binary") else form
            lines.append(f"| {name} | {way} | {' | '.join(cells)} |")
    machine = part["machine"]
    summary = (
        f"{ratios(measured)} Isolation: {machine['isolation']}. ({machine['cpus']} cores, "
        f"load before {machine['load_before']}, Python {machine['python']})"
    )
    return [*lines, "", summary, ""]


def cell(found: dict[str, float]) -> str:
    return f"{found['requests_per_second']:,.0f}/s, {found['p50_ms']:.2f}, {found['p99_ms']:.2f} ms"


def ratios(measured: dict[str, Any]) -> str:
    """What isolation costs, and how many times the peers' throughput Muster has."""

    def rate(server: str, form: str, clients: int) -> float:
        return float(measured[f"{server} {form} {clients}"]["requests_per_second"])

    cost = [
        rate("isolated", form, clients) / rate("not_isolated", form, clients)
        for form in ("json", "binary")
        for clients in CLIENTS
    ]
    times = [
        f"in {form} {min(ratio):.1f} to {max(ratio):.1f} times as many as {TITLES[server]}"
        for form in ("json", "binary")
        for server in ("mlserver", "uvicorn")
        if f"{server} {form} 1" in measured
        and (ratio := [rate("isolated", form, n) / rate(server, form, n) for n in CLIENTS])
    ]
    alone = measured["runtime_calls_per_second"]
    return (
        f"The runtime alone, with one thread and no server, makes {alone:,.0f} calls a second. "
        f"Isolated it answers {min(cost):.2f} to {max(cost):.2f} times as many requests as not "
        f"isolated; {', '.join(times)}."
    )


def starts(part: dict[str, Any] | None) -> list[str]:
    if part is None:
        return []
    lines = ["| from process to ready | isolated | not isolated |", "|---|---|---|"]
    for name, title in MODELS.items():
        own = part["measured"][name]
        cells = [
            f"{own[server]['median_seconds']:.3f} s" for server in ("isolated", "not_isolated")
        ]
        lines.append(f"| {title} | {cells[0]} | {cells[1]} |")
    count = part["measured"]["mlp"]["isolated"]["starts"]
    return [*lines, "", f"Medians of {count} starts each, by turns.", ""]
