# ruff: noqa: E501 (a table's row is one line)
"""The tables of signals in ``bench/README.md`` and ``docs/drift.md``, from the results."""

from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"
DRIFT = Path(__file__).parent.parent / "docs" / "drift.md"
TRAINED = ("two days", "a week")
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"


def write(results: dict[str, Any]) -> None:
    """Replace what stands between the marks."""
    put(README, "signals", summaries(results) + outbox(results) + evidently(results))
    put(DRIFT, "in time", in_time(results))
    put(DRIFT, "alerts", alerts(results))


def put(page: Path, name: str, lines: list[str]) -> None:
    text = page.read_text()
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = text.split(begin)
    _, after = rest.split(end)
    page.write_text(before + begin + "\n" + "\n".join(lines).strip() + "\n" + end + after)


def summaries(results: dict[str, Any]) -> list[str]:
    if "datasketches" not in results.get("speed", {}):
        return []
    own = peers = results["speed"]
    lines = [
        (
            "| 3000 rows × 50 features | values folded a second | bytes a feature, compressed "
            "| merging two, µs |"
        ),
        "|---|---|---|---|",
        (
            f"| Muster | {own['fold_values_per_second'] / 1e6:,.1f} M "
            f"| {own['bytes_per_feature']:.1f} | {own['merge_features_microseconds']:.1f} |"
        ),
    ]
    titles = {"datasketches": "DataSketches vector KLL, k = 200", "whylogs": "whylogs"}
    lines += [
        f"| {title} | {peers[name]['fold_values_per_second'] / 1e6:,.2f} M "
        f"| {peers[name]['bytes_per_feature_compressed']:,.0f} "
        f"| {peers[name]['merge_microseconds']:,.0f} |"
        for name, title in titles.items()
    ]
    ratios = {
        name: own["fold_values_per_second"] / peers[name]["fold_values_per_second"]
        for name in titles
    }
    merging = peers["datasketches"]["merge_microseconds"] / own["merge_features_microseconds"]
    lines += [
        "",
        (
            f"Folding was {ratios['datasketches']:.1f}× as fast as vector KLL and "
            f"{ratios['whylogs']:,.0f}× as fast as whylogs, merging {merging:,.0f}× as fast as KLL. "
            f"Muster's bytes include the summary's head; without it they are "
            f"{own['bytes_per_feature_without_head']:.1f} a feature. The best of {own['rounds']} rounds "
            f"by turns. {where(own)}"
        ),
    ]
    if "recording_adds_microseconds" in own:
        lines += [
            "",
            (
                f"Recording adds {own['recording_adds_microseconds']:.2f} µs to a run of "
                f"{own['bare_run_microseconds']:.2f} µs (30 inputs, 2 outputs)."
            ),
        ]
    lines.append("")
    return lines


def outbox(results: dict[str, Any]) -> list[str]:
    if "outbox" not in results:
        return []
    own = results["outbox"]
    return [
        (
            f"**{own['days']} days offline**, {own['windows']:,} windows of five minutes and "
            f"{own['features']} features in {own['bytes_max'] / 2**20:.0f} MiB: {own['bytes']:,} bytes "
            f"in {own['rows_sent']:,} rows at reconnection ({own['merges']:,} merges, "
            f"{own['dropped']} dropped); {own['inferences_counted']:,} of {own['inferences_sent']:,} "
            f"inferences counted, every bin exact. {where(own)}"
        ),
        "",
    ]


def evidently(results: dict[str, Any]) -> list[str]:
    if "evidently" not in results.get("peers", {}):
        return []
    own = results["peers"]
    return [
        "Evidently's default drift test on windows **without drift**, of the same kinds of streams:",
        "",
        "| windows | share with a drifted column |",
        "|---|---|",
        *(
            f"| {name} | {flagged['windows_flagged']:.0%} of {flagged['windows']} |"
            for name, flagged in own["evidently"].items()
        ),
        "",
        where(own),
    ]


def in_time(results: dict[str, Any]) -> list[str]:
    """Baselines in time, trained on two days and on a week of windows in order."""
    if "time" not in results:
        return []
    lines = [
        (
            "| scenario | device-months, each | false alerts a device-month, 95 % upper bound: trained on two days "
            "| on a week | 0.5 σ found within 3, 12 windows (week) | a shift of 1 σ, median delay after 1, 6, 30, "
            "60, 288 windows of life |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for row in results["time"]["rows"]:
        short, long = row["trained"]["two days"], row["trained"]["a week"]
        young = long["young_median_delay"]
        lines.append(
            f"| {row['dependence']}, n = {row['rows']}, {row['features']} features | {short['months']:.0f} "
            f"| {short['per_month']:.2f}, ≤ {short['upper']:.2f} | {long['per_month']:.2f}, "
            f"≤ {long['upper']:.2f} | {long['found_in_3']}, {long['found_in_12']} of {long['trials']} "
            f"| {', '.join(_delay(young.get(lived)) for lived in ('1', '6', '30', '60', '288'))} |"
        )
    return [
        *lines, "", *sums(results["time"]["rows"]), "",
        f"Seed {results['time']['seed']}. {where(results['time'])}",
    ]  # fmt: skip


def sums(rows: list[dict[str, Any]]) -> list[str]:
    """False alerts of all rows together, by how many features there are."""
    counts = sorted({row["features"] for row in rows})
    groups = {"all rows": rows} | {
        f"{count} features": [row for row in rows if row["features"] == count] for count in counts
    }
    lines = [
        "| together | trained on two days: false alerts a device-month | on a week |",
        "|---|---|---|",
    ]
    for name, group in groups.items():
        cells = [_together([row["trained"][trained] for row in group]) for trained in TRAINED]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _together(cells: list[dict[str, Any]]) -> str:
    alerts, months = (sum(cell[what] for cell in cells) for what in ("alerts", "months"))
    return f"{alerts / months:.2f} ({alerts} in {months:.0f} months)"


def _delay(median: float | None) -> str:
    return "–" if median is None else "> 36" if median > 36 else f"{median:g}"


def alerts(results: dict[str, Any]) -> list[str]:
    if "alerts" not in results:
        return []
    lines = [
        (
            "| scenario | simulated devices | device-months | false alerts a device-month, 95 % upper bound "
            "| first day, a device | 0.5 σ found within 3 windows | PSI > 0.2: windows flagged "
            "| KS + BH: windows flagged |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["alerts"]["rows"]:
        own = row["false_alerts"]["Muster"]
        flagged = [
            f"{row['false_alerts'][name]['windows_flagged']:.1%}"
            for name in ("PSI > 0.2", "KS + BH 5 %")
        ]
        lines.append(
            f"| {row['dependence']}, n = {row['rows']}, {row['features']} features "
            f"| {row['devices']} | {own['months']:.0f} | {own['per_month']:.2f}, ≤ {own['upper']:.2f} "
            f"| {row['first_day_alerts_per_device']:.2f} "
            f"| {row['detected_within_3_windows']:.0%} of {row['trials']} "
            f"| {flagged[0]} | {flagged[1]} |"
        )
    return [*lines, "", f"Seed {results['alerts']['seed']}. {where(results['alerts'])}"]


def where(part: dict[str, Any]) -> str:
    machine = part["machine"]
    return (
        f"({machine['cpus']} cores, load {machine['load']:.1f}, Python {machine['python']}, "
        f"numpy {machine['numpy']})"
    )
