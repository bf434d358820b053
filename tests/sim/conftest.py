"""What a run of these tests prints at its end: by which seed each planted bug was found."""

from typing import Any

from sim.run import PLANTED, PLANTS_HEADING, row


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = [
        value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == PLANTED
    ]
    if found:
        terminalreporter.section("bugs planted in the simulator")
        terminalreporter.write_line(PLANTS_HEADING)
        for name, seed, promise in sorted(found):
            terminalreporter.write_line(row(name, seed, promise))
