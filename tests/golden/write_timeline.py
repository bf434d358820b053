"""Write the frozen baseline of format 2: ``python tests/golden/write_timeline.py``.

``baseline_v2`` is from before spreads that fall were counted by the cube root of their variance,
and is written no more. Run it only for a new version of the format; the files of old versions stay
and must stay readable.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from muster_protocol.signals import baseline, charts, summary_wire  # noqa: E402 the path comes first
from muster_protocol.signals.chart_monitor import ChartMonitor  # noqa: E402 the path comes first
from support import in_time  # noqa: E402 the path comes first
from support.in_time import Machine, moved  # noqa: E402 the path comes first

WINDOWS, SHIFTED = 50, 30
CHANCE = 1 / 8640
NAME = "baseline_v2_cube_root"


def main() -> None:
    fitted = in_time.fitted()
    machine = Machine(ChartMonitor(fitted))
    payloads, heard = [], []
    for number in range(WINDOWS):
        summary = machine.draw(moved(0, 2.0) if number >= SHIFTED else None)
        payloads.append(summary_wire.encode(summary))
        found = machine.monitor.feed(summary)
        heard.append(
            [
                [finding.feature, finding.statistic, finding.direction, finding.state]
                for finding in found
            ]
        )
    (HERE / f"{NAME}.bin").write_bytes(baseline.encode(fitted))
    (HERE / f"{NAME}_windows.bin").write_bytes(
        b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)
    )
    limits = charts.limits(machine.monitor.normal.charts, CHANCE)
    story = {"digest": fitted.digest, "limits": limits, "findings": heard}
    (HERE / f"{NAME}.json").write_text(json.dumps(story, indent=1) + "\n")


if __name__ == "__main__":
    main()
