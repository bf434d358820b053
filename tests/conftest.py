"""One hypothesis profile for the whole tree: no deadlines, because shared machines are slow.

Tests of many cases say how many they tried (``record_property("tried", line)``), and the end of a
run lists it: a matrix that shrank in silence would prove less than it seems to.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any test imports it, or it reports to its maker
settings.register_profile(
    "muster", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("muster")


TOLD = {
    "tried": "tried",
    "planted": "bugs planted in the simulator, seeds that found them, promises they broke",
}
"""Properties that tests record for the end of a run → their headings there."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reported, heading in TOLD.items():
        lines = [
            str(value)
            for report in terminalreporter.getreports("passed")
            for name, value in getattr(report, "user_properties", ())
            if name == reported and report.when == "call"
        ]
        if lines:
            terminalreporter.section(heading)
            for line in sorted(lines):
                terminalreporter.line(line)
