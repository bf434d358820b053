"""Releases of the agent itself: this tree under other versions, as wheels, and what they need."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = "    stopping = False\n"
"""How the agent's service begins."""


def run(*command: object, **options: Path) -> None:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=600, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


def built(folder: Path, version: str, start: str = RUN) -> Path:
    """The wheel of this tree under another version; ``start`` is how its service begins."""
    tree = folder / f"tree-{version}"
    for name in ("protocol", "agent", "hub"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    project = (ROOT / "pyproject.toml").read_text()
    project = re.sub(r'^version = ".*"', f'version = "{version}"', project, flags=re.MULTILINE)
    (tree / "pyproject.toml").write_text(project)
    service = tree / "agent" / "muster_agent" / "app" / "service.py"
    text = service.read_text()
    assert text.count(RUN) == 1
    service.write_text(text.replace(RUN, start))
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tree / "dist", cwd=tree)
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel


def needed(folder: Path, version: str) -> list[Path]:
    """The wheels that an agent needs beside its own, and this version's own."""
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (folder / "pins.txt").write_text("\n".join(pins))
    run(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--dest", folder, "-c", folder / "pins.txt", f"{built(folder, version)}[agent]",
    )  # fmt: skip
    return sorted(folder.glob("*.whl"))
