"""The agent's Debian package, built from this tree for this machine."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def built(folder: Path) -> Path:
    """Not compressed, which would take most of the time."""
    spoken = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True, timeout=60
    )
    subprocess.run(
        [sys.executable, ROOT / "deploy/deb/build.py", "--to", folder, "--only", "muster-agent",
         "--architecture", spoken.stdout.strip(), "--compression", "none"],
        check=True, timeout=900,
    )  # fmt: skip
    (made,) = folder.glob("*.deb")
    return made
