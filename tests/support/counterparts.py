"""Other makers' programs for `make test-doors`, each installed once, away from ours."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build" / "doors"
INSTALL_SECONDS = 1500.0


def environment(name: str, *packages: str) -> Path:
    """The folder of programs of an environment with these packages, kept in `build/doors`."""
    wanted = hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:12]
    folder = BUILD / f"{name}-{wanted}"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=120)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--prefer-binary"]
        subprocess.run([*pip, *packages], check=True, timeout=INSTALL_SECONDS)
        (folder / "ready").touch()
    return folder / "bin"


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
