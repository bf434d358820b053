"""A Debian package built from this tree, and the same with a later number."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def here() -> str:
    """This machine's architecture, by Debian's word."""
    spoken = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True, timeout=60
    )
    return spoken.stdout.strip()


def built(folder: Path, name: str = "muster-agent", architecture: str = "") -> Path:
    """For that architecture, else for this machine. Not compressed, which would take most of the
    time."""
    subprocess.run(
        [sys.executable, ROOT / "deploy/deb/build.py", "--to", folder, "--only", name,
         "--architecture", architecture or here(), "--compression", "none"],
        check=True, timeout=900,
    )  # fmt: skip
    (made,) = folder.glob(f"{name}_*.deb")
    return made


def newer(package: Path, folder: Path) -> Path:
    """The same with the next revision's number."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True, timeout=300)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert "-1+py" in text
    control.write_text(text.replace("-1+py", "-2+py", 1))
    made = folder / f"newer-{package.name}"
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, made], check=True, timeout=300)
    return made
