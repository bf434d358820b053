"""Rewrite the gates' table in ``bench/README.md`` from ``bench/results/gates.json``.

python -m bench.gates_report
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gates.json"
README = HERE / "README.md"
BEGIN, END = "<!-- gates: begin -->", "<!-- gates: end -->"
HEAD = (
    "| fleet | canaries | gate | stops when nothing is wrong | 2× on all: found, median windows, "
    "harmed device-hours | 10× on a fifth: found, harmed device-hours | 1.5× on all: advanced | "
    "nothing wrong: advanced |\n|---|---|---|---|---|---|---|---|"
)


def table(results: dict[str, Any]) -> str:
    """Markdown: a row per fleet, canary size and gate."""
    rows = {
        (row["fleet"], row["canaries"], row["gate"], row["scenario"]): row
        for row in results["table"]
    }
    lines = [HEAD]
    for fleet, canaries, gate in dict.fromkeys(key[:3] for key in rows):
        null, doubled, fifth, half = (
            rows[fleet, canaries, gate, name]
            for name in ("null", "2x on all", "10x on 20 %", "1.5x on all")
        )
        median = doubled["median_windows"]
        first, advanced = (
            ("| |", "| – | –")
            if gate != "two arms"
            else (f"| {fleet} | {canaries}", f"| {half['advanced']:.1%} | {null['advanced']:.1%}")
        )
        lines.append(
            f"{first} | {gate} | {null['stopped']:.1%} "
            f"| {doubled['stopped']:.1%}, {'–' if median is None else f'{median:g}'}, "
            f"{doubled['harmed_device_hours']:.0f} "
            f"| {fifth['stopped']:.1%}, {fifth['harmed_device_hours']:.0f} {advanced} |"
        )
    return "\n".join(lines)


def section(results: dict[str, Any]) -> str:
    return (
        f"{BEGIN}\n{results['runs']:,} runs a case, seed {results['seed']}, nominal "
        f"{results['nominal']:.0%}.\n\n{table(results)}\n{END}"
    )


def main() -> None:
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    README.write_text(before + section(results) + after, encoding="utf-8")


if __name__ == "__main__":
    main()
