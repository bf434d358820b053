"""No command ends over a character that the terminal's encoding lacks."""

import os
import subprocess
import sys

import pytest

ENTRIES = [
    ("muster_agent.entry", "agent", ["doctor", "--dir", "übersicht"]),
    ("muster_hub.entry", "hub", ["--help"]),
    ("muster_client.entry", "main", ["--help"]),
]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(("module", "name", "words"), ENTRIES)
def test_what_an_encoding_lacks_is_shown_as_a_question_mark(
    tmp_path, module, name, words, encoding
):
    # What any command may print last: a device's label, a model's name.
    script = f"import atexit; from {module} import {name}; atexit.register(print, '☀'); {name}()"
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True, timeout=120, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
    )  # fmt: skip
    assert b"UnicodeEncodeError" not in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"?" in done.stdout
