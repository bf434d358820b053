# ruff: noqa: E501 (a table's row is one line)
"""The table of slow links in ``bench/README.md``, from the results."""

from typing import Any

from bench.signals_report import README, put


def write(results: dict[str, Any]) -> None:
    """Replace what stands between the marks."""
    machine = results["machine"]
    lines = [
        f"| link | seconds (of size/rate) | bytes down (of the model's) | telemetry's longest delay | plain HTTPS: of size/rate, of the bytes | ({machine['cpus']} cores, load before {machine['load_before']}) |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        plain = row["plain_http"]
        beside = (
            f"{plain['times_size_over_rate']}×, {plain['times_bytes']}×" if plain else "no HTTP"
        )
        ended = "" if row["installed"] and not row["refusals"] else "refused or not there"
        lines.append(
            f"| {row['profile']} | {row['seconds']} ({row['times_size_over_rate']}×) | {row['bytes_down'] / 1e3:.0f} KB ({row['times_bytes']}×) "
            f"| {row['telemetry_delay_seconds_max']} s of {row['windows']} windows | {beside} | {ended} |"
        )
    put(README, "links", lines)
