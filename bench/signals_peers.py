"""The peers' figures, each from an environment of its own that is made on the first run."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench.signals_speed import FEATURES, ROWS, speeds
from bench.signals_streams import RHO, WANDER_SD
from scipy import signal

HERE = Path(__file__).parent / "peers"
VENVS = Path("build/bench-venvs")
PACKAGES = {
    "datasketches": ("datasketches==5.2.0", "numpy"),
    "whylogs": ("whylogs==1.6.4", "numpy<2", "pandas<3"),
    "evidently": ("evidently==0.7.23", "pandas<3"),
    "mlserver": ("mlserver==1.6.1", "onnxruntime==1.32.0", "numpy", "setuptools<80"),
}
EVIDENTLY_WINDOWS = {8: 20, 50: 5}
"""By features: it takes seconds for 8 of them, half a minute for 50."""
ROUNDS = 5


def interpreter(name: str) -> Path:
    """Python of a peer's environment, made by pip when it is not there."""
    home = VENVS / name
    python = home / "bin" / "python"
    ready = home / "ready"
    wanted = "\n".join(PACKAGES[name])
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
        ready.write_text(wanted)
    return python


def run(name: str, script: str, *arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        [interpreter(name), HERE / script, *arguments], check=True, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


def calm_windows(rng: np.random.Generator, count: int) -> dict[str, np.ndarray[Any, Any]]:
    """Training rows, and windows [windows, rows, features] in which nothing drifts."""
    windows = EVIDENTLY_WINDOWS[count]
    data = {"training": rng.normal(size=(20_000, count))}
    for rows in (50, 300, 3000):
        shape = (windows, rows, count)
        data[f"iid, n = {rows}"] = rng.normal(size=shape)
        for name, rho in RHO.items():
            noise = rng.normal(size=(windows, rows + 100, count)) * np.sqrt(1 - rho**2)
            path = signal.lfilter([1], [1, -rho], noise, axis=1)
            data[f"{name}, n = {rows}"] = path[:, 100:]
        means = rng.normal(0, WANDER_SD, size=(windows, 1, count))
        own = np.sqrt(1 - WANDER_SD**2)
        data[f"wander, n = {rows}"] = means + own * rng.normal(size=shape)
    return data


def bettered(best: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Each figure's better one: others on the machine only ever slow a run down."""
    return {
        name: max(value, best.get(name, value))
        if name.endswith("per_second")
        else min(value, best.get(name, value))
        for name, value in run.items()
    }


def compared(seed: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """Muster's speeds and the peers' by turns, so that all meet the same noise."""
    rng = np.random.default_rng(seed)
    own: dict[str, Any] = {}
    others: dict[str, dict[str, Any]] = {"datasketches": {}, "whylogs": {}}
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "window.npy"
        np.save(data, rng.normal(size=(ROWS, FEATURES)).astype(np.float32))
        for _ in range(rounds):
            own = bettered(own, speeds(seed))
            for name, script in (("datasketches", "kll.py"), ("whylogs", "whylog.py")):
                others[name] = bettered(others[name], run(name, script, data))
    added = own["recorded_run_microseconds"] - own["bare_run_microseconds"]
    return {"rounds": rounds, "recording_adds_microseconds": added} | own | others


def peers(seed: int) -> dict[str, Any]:
    """Evidently on windows in which nothing drifts."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        for count in EVIDENTLY_WINDOWS:
            calm = Path(directory) / f"calm-{count}.npz"
            np.savez(calm, **calm_windows(np.random.default_rng(seed), count))
            found = run("evidently", "evident.py", calm)
            results |= {f"{name}, {count} features": row for name, row in found.items()}
    return {"evidently": results}
