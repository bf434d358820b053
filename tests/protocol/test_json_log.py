"""Logs for programs: one line an event, readable as JSON whatever is in it."""

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.json_log import JsonLines


def record(text: str, *values: object, error: Exception | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    return logging.LogRecord("muster.x", logging.WARNING, __file__, 1, text, values, exc_info)


@given(st.text())
def test_any_text_is_one_line_and_comes_back_as_it_was(text: str) -> None:
    line = JsonLines().format(record("%s", text))
    assert line.count("\n") == 0
    assert json.loads(line)["message"] == text


def test_a_line_says_when_how_bad_and_where() -> None:
    said = json.loads(JsonLines().format(record("lost %s", "cam-1")))
    assert (said["level"], said["logger"], said["message"]) == (
        "warning", "muster.x", "lost cam-1"
    )  # fmt: skip
    assert datetime.fromisoformat(said["at"]).tzinfo == UTC


def test_an_error_brings_its_traceback() -> None:
    said = json.loads(JsonLines().format(record("failed", error=ValueError("no"))))
    assert said["error"].endswith("ValueError: no")


def test_the_agent_and_the_hub_log_so_when_asked() -> None:
    program = (
        "import logging, sys; from muster_protocol import json_log;"
        "json_log.configure(logging.INFO, '%(message)s', as_json=sys.argv[1] == '1');"
        "logging.getLogger('a').info('b\\nc')"
    )
    lines = {
        flag: subprocess.run(
            [sys.executable, "-c", program, flag], capture_output=True, text=True, check=True,
            timeout=60,
        ).stderr
        for flag in "01"
    }  # fmt: skip
    assert lines["0"] == "b\nc\n"
    assert json.loads(lines["1"])["message"] == "b\nc"
