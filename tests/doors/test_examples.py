"""The examples: each is one command that ends with a line saying what was proved."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.doors, pytest.mark.timeout(1800)]


def test_a_worn_pump_is_stopped_through_the_interlock_and_a_bad_version_never_touches_the_plc():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "predictive-maintenance" / "run.py"],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0, done.stdout + done.stderr
    assert last[0].startswith("EXAMPLE OK: ")
    wear = re.search(r"at wear (0\.\d+) of 1\.00", last[0])
    assert wear is not None
    assert 0.3 < float(wear[1]) < 0.95


def test_scratched_discs_are_rejected_a_faded_lamp_named_and_retrained_and_int8_models_win():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "visual-quality-control" / "run.py"],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0, done.stdout + done.stderr
    assert last[0].startswith("EXAMPLE OK: ")
    counts = re.search(
        r"right in (\d+) of (\d+) labelled pictures where version 1 was in (\d+)", last[0]
    )
    assert counts is not None
    right, labelled, before = map(int, counts.groups())
    assert before < right <= labelled
    agreed = re.search(r"agreed with ONNX on (\d+) of (\d+) pictures", last[0])
    assert agreed is not None
    assert int(agreed[1]) >= 0.95 * int(agreed[2])
