"""TFLite where only ``tflite-runtime`` is to be had: Python 3.11, NumPy 1, an environment apart."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.damaged_models import bundle_of, mutated
from support.models import dense_tflite, weights

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "build" / "test-venvs" / "tflite-runtime"
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2", "msgspec>=0.19")
MUTANTS = 300
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="made for Python 3.11 only"),
]


@pytest.fixture(scope="module")
def python() -> Path:
    """The environment's interpreter; made by pip when it is not there."""
    interpreter, ready = HOME / "bin" / "python", HOME / "ready"
    wanted = "\n".join(PACKAGES)
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", HOME], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        ready.write_text(wanted)
    return interpreter


def started(python: Path, bundles: list[tuple[str, str]]) -> dict[str, int]:
    roots = [ROOT / part for part in ("tests", "agent", "protocol")]
    done = subprocess.run(
        [python, "-P", ROOT / "tests" / "support" / "starts.py", "tflite"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, roots))},
        input=json.dumps(bundles), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes: dict[str, int] = json.loads(done.stdout)
    assert "fell over" not in outcomes, done.stderr[-2000:]
    return outcomes


def test_a_whole_model_starts_there_and_damaged_ones_are_refused_or_die_alone(
    python: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    whole, rng = dense_tflite(*weights()), random.Random(3)
    good = str(tmp_path / "good"), bundle_of(tmp_path / "good", "tflite", whole)
    assert started(python, [good]) == {"ready": 1}
    bundles = []
    for number in range(MUTANTS):
        at = tmp_path / str(number)
        bundles.append((str(at), bundle_of(at, "tflite", mutated(whole, rng))))
    outcomes = started(python, bundles)
    assert sum(outcomes.values()) == MUTANTS
    assert outcomes.get("ready", 0) < MUTANTS / 10
    record_property("tried", f"{MUTANTS} damaged models in tflite-runtime: {outcomes}")
