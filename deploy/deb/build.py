"""Build the Debian packages of the agent and of the hub: ``python deploy/deb/build.py --to DIR``.

A package holds a whole virtual environment with exactly what constraints.txt pins, and takes only
the interpreter from the system: it installs without a network, and the distribution's updates of
Python reach it. Extension modules fit one minor version of Python, so a package asks for the Python
of one Debian release, which keeps it for years; the next release gets a package of its own.

Nothing of the target runs here: wheels are unpacked, never executed. So one machine builds for
every architecture, without root. Times are those of the last commit.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MAINTAINER = "The Muster authors <authors@muster-edge.invalid>"
HOMEPAGE = "https://muster-edge.invalid/"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Packages are for the Python that builds them: what a dependency asks for depends on it."""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's word for an architecture, and that of wheels."""
GLIBC_MINOR_MAX = 36
"""Of Debian 12, the oldest release that a package is for: 2.36."""
UNUSED = ("tests", "_tests")
"""Folders of libraries that only their makers need."""
LAUNCHER = "muster-agent-launch"
PIP = "import sys, glob; sys.path += glob.glob('/usr/share/python-wheels/pip-*.whl')\n"
"""The system's pip, for the agent to install a release of itself beside this one."""


@dataclass(frozen=True)
class Package:
    """What differs between the two."""

    name: str
    extras: str
    commands: dict[str, str]
    """Command on the PATH to the script of pyproject.toml that it is."""
    unit: Path
    depends: tuple[str, ...]
    summary: str
    description: str


AGENT = Package(
    name="muster-agent",
    extras="agent,onnx,tflite,modbus,opcua,images",
    # The launcher passes each command on to the agent that is in place.
    commands={"muster-agent": LAUNCHER, LAUNCHER: LAUNCHER},
    unit=ROOT / "deploy/systemd/muster-agent.service",
    depends=("python3-pip-whl",),
    summary="runs signed models on a device and reports on them",
    description="The agent verifies each model that the hub publishes over MQTT, swaps to it "
    "without a pause, answers inferences on a local socket and uploads summaries. It goes on "
    "without a link.",
)
HUB = Package(
    name="muster-hub",
    extras="hub,cli,agent,onnx,tflite,baseline,postgres,hsm,aws",
    commands={"muster-hub": "muster-hub", "muster": "muster"},
    unit=ROOT / "deploy/systemd/muster-hub.service",
    depends=("mosquitto",),
    summary="registry, rollouts and telemetry of a fleet of devices",
    description="The hub signs model bundles, publishes them to devices over MQTT, rolls them out "
    "in waves and watches what they report. The command muster operates it.",
)
PACKAGES = {package.name: package for package in (AGENT, HUB)}


def run(*command: object, **options: object) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE, text=True, check=False, timeout=1800, **options,
    )  # type: ignore[call-overload]  # options are those of run  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nstopped at: {' '.join(map(str, command))}")
    return str(done.stdout)


def write(path: Path, text: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def release() -> tuple[str, int]:
    """Version of the project, and the time of the last commit in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    epoch = given or run("git", "-C", ROOT, "log", "-1", "--format=%ct")
    return str(project()["version"]), int(epoch)


def pins() -> dict[str, str]:
    """What constraints.txt pins for this Python, with the hashes, by normalized name."""
    found: dict[str, str] = {}
    text = (ROOT / "constraints.txt").read_text()
    for block in re.findall(r"^\S[^\n]*(?:\n[ \t]+[^\n]*)*", text, re.MULTILINE):
        stated, *hashes = (line.strip(" \\") for line in block.split("\n"))
        requirement = Requirement(stated)
        if requirement.marker is None or requirement.marker.evaluate():
            pinned = f"{requirement.name}{requirement.specifier}"
            found[normal(requirement.name)] = " ".join([pinned, *hashes])
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unpack(wheel: Path, package: Package, machine: str, to: Path) -> None:
    """The wheel and all it needs, for another Python and machine, into one folder."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR_MAX, 4, -1)]
    target = [
        "--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:",
        *(f"--abi={abi}" for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none")),
        *(f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}")),
    ]  # fmt: skip
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    known = pins()
    with tempfile.TemporaryDirectory() as folder:
        versions = Path(folder) / "versions.txt"
        versions.write_text("".join(pin.partition(" ")[0] + "\n" for pin in known.values()))
        plan = json.loads(
            run(
                *pip, "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *target,
                "--target", to, "-c", versions, f"{wheel}[{package.extras}]",
            )
        )  # fmt: skip
        names = {normal(each["metadata"]["name"]) for each in plan["install"]} - {"muster-edge"}
        hashed = Path(folder) / "hashed.txt"
        hashed.write_text("\n".join(known[name] for name in sorted(names)))
        run(
            *pip, "--quiet", "--no-deps", "--no-compile", *target, "--target", to,
            "--require-hashes", "-r", hashed,
        )  # fmt: skip
        run(*pip, "--quiet", "--no-deps", "--no-compile", *target, "--target", to, wheel)
    shutil.rmtree(to / "bin", ignore_errors=True)
    for path in [*to.rglob("*")]:
        if path.is_dir() and path.name in UNUSED:
            shutil.rmtree(path)
        elif path.name in {"direct_url.json", "REQUESTED", "INSTALLER", ".gitignore"}:
            path.unlink()
        elif path.is_file():
            path.chmod(0o644)


def environment(package: Package, tree: Path) -> None:
    """Make the unpacked folder a virtual environment of the system's Python."""
    home = tree / "usr/lib" / package.name
    write(
        home / "pyvenv.cfg",
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON}\n",
    )
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(f"../../../bin/python{PYTHON}")
    (home / "bin/python").symlink_to("python3")
    if package is AGENT:
        write(home / f"lib/python{PYTHON}/site-packages/system-pip.pth", PIP)
    for command, script in package.commands.items():
        module, _, function = project()["scripts"][script].partition(":")
        # Isolated from the user's modules; usage and errors show the command's own name.
        code = f'import sys; sys.argv[0] = "{command}"; from {module} import {function}; '
        start = f"exec /usr/lib/{package.name}/bin/python3 -I -c '{code}{function}()' \"$@\"\n"
        write(tree / "usr/bin" / command, f"#!/bin/sh\n{start}", 0o755)


def licences(site: Path) -> Iterator[str]:
    for path in sorted(site.glob("*.dist-info/METADATA")):
        said = HeaderParser().parsestr(path.read_text(encoding="utf-8"))
        terms = said["License-Expression"] or said["License"] or ""
        if not terms or "\n" in terms or len(terms) > 80:
            classified = (line for line in said.get_all("Classifier", []) if "License ::" in line)
            terms = ", ".join(line.rpartition(" :: ")[2] for line in classified) or "see its files"
        yield f"{said['Name']} {said['Version']}: {terms}"


def documents(package: Package, version: str, epoch: int, tree: Path) -> None:
    folder = tree / "usr/share/doc" / package.name
    site = next((tree / "usr/lib" / package.name / "lib").iterdir()) / "site-packages"
    bundled = "".join(f"  {line}\n" for line in licences(site))
    write(
        folder / "copyright",
        "Muster is under the Apache License 2.0; on Debian systems its text is in\n"
        "/usr/share/common-licenses/Apache-2.0.\n\n"
        "Copyright 2025-2026 The Muster authors\n\n"
        f"Under /usr/lib/{package.name} are, each with its licence in its .dist-info folder:\n\n"
        + bundled,
    )
    dated = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(epoch))
    entry = (
        f"{package.name} ({version}) unstable; urgency=medium\n\n"
        f"  * This version; see changelog.gz for what changed.\n\n -- {MAINTAINER}  {dated}\n"
    )
    write(folder / "changelog.Debian.gz", gzip.compress(entry.encode(), mtime=0))
    changes = (ROOT / "CHANGELOG.md").read_bytes()
    write(folder / "changelog.gz", gzip.compress(changes, mtime=0))
    day = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    for command in package.commands:
        text = (
            f".TH {command.upper()} 1 {day} Muster\n.SH NAME\n{command} \\- {package.summary}\n"
            f".SH SYNOPSIS\n.B {command}\nCOMMAND [OPTION]...\n.SH DESCRIPTION\n"
            f"{package.description}\n.PP\nWhat each command does, and its options:\n"
            f".B {command} \\-\\-help\n"
        )
        page = tree / "usr/share/man/man1" / f"{command}.1.gz"
        write(page, gzip.compress(text.encode(), mtime=0))


def placed(text: str, package: Package) -> str:
    """A unit or script as it is in deploy/, with the paths of the package.

    Raises SystemExit when it starts what the package lacks.
    """
    lacking = {*re.findall(r"/opt/muster/bin/([\w-]+)", text)} - {*package.commands}
    if lacking:
        raise SystemExit(f"{package.name} has no {', '.join(sorted(lacking))}, which it starts")
    home = f"/usr/lib/{package.name}/"
    return text.replace("/opt/muster/bin/", "/usr/bin/").replace("/opt/muster/", home)


def services(package: Package, tree: Path) -> None:
    """The unit as it is in deploy/systemd, and what goes with it."""
    units = tree / "usr/lib/systemd/system"
    here = HERE / package.name.removeprefix("muster-")
    write(units / package.unit.name, placed(package.unit.read_text(), package))
    if package is HUB:  # Enabled only by who wants it.
        broker = ROOT / "deploy/systemd/muster-hub-broker.service"
        write(units / broker.name, placed(broker.read_text(), package))
    if package is AGENT:
        home = tree / "usr/lib" / package.name
        start = placed((ROOT / "deploy/first-boot").read_text(), package)
        write(home / "first-boot", start, 0o755)
        unit = (ROOT / "deploy/systemd/first-boot.conf").read_text()
        write(units / f"{package.unit.name}.d/first-boot.conf", placed(unit, package))
    for path in sorted((here / "etc").rglob("*")):
        if path.is_file():
            write(tree / "etc" / path.relative_to(here / "etc"), path.read_bytes(), 0o640)
    write(
        tree / "usr/share/lintian/overrides" / package.name,
        (HERE / "lintian-overrides").read_text(),
    )


def control(package: Package, version: str, architecture: str, tree: Path) -> None:
    """``DEBIAN/``: what dpkg is told, the scripts of the maintainer and the sums of all files."""
    major, _, minor = PYTHON.partition(".")
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum((path.stat().st_size + 1023) // 1024 for path in files)
    depends = (
        f"python3 (>= {PYTHON}~)", f"python3 (<< {major}.{int(minor) + 1}~)", f"python{PYTHON}",
        "libc6 (>= 2.28)", "libgcc-s1", "libstdc++6", "adduser", "tzdata", *package.depends,
    )  # fmt: skip
    about = textwrap.fill(package.description, 78, initial_indent=" ", subsequent_indent=" ")
    write(
        tree / "DEBIAN/control",
        f"Package: {package.name}\nVersion: {version}\nArchitecture: {architecture}\n"
        f"Maintainer: {MAINTAINER}\nHomepage: {HOMEPAGE}\nInstalled-Size: {size}\n"
        f"Pre-Depends: init-system-helpers (>= 1.54~)\nDepends: {', '.join(depends)}\n"
        f"Section: misc\nPriority: optional\nDescription: {package.summary}\n{about}\n",
    )
    sums = (
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
    )
    write(tree / "DEBIAN/md5sums", "".join(sums))
    settings = [
        f"/{path.relative_to(tree)}\n" for path in files if path.is_relative_to(tree / "etc")
    ]
    if settings:
        write(tree / "DEBIAN/conffiles", "".join(settings))
    for name in ("preinst", "postinst", "prerm", "postrm"):
        source = HERE / package.name.removeprefix("muster-") / name
        if source.exists():
            write(tree / "DEBIAN" / name, source.read_bytes(), 0o755)


def build(package: Package, architecture: str, wheel: Path, to: Path, compression: str) -> Path:
    """One package; returns its path."""
    number, epoch = release()
    version = f"{number}-1+py{PYTHON.replace('.', '')}"
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        site = tree / "usr/lib" / package.name / f"lib/python{PYTHON}/site-packages"
        site.mkdir(parents=True)
        unpack(wheel, package, MACHINES[architecture], site)
        environment(package, tree)
        documents(package, version, epoch, tree)
        services(package, tree)
        control(package, version, architecture, tree)
        for path in [*tree.rglob("*"), tree]:
            if not path.is_symlink():
                mode = 0o755 if path.is_dir() or path.stat().st_mode & 0o100 else None
                secret = path.is_relative_to(tree / "etc") and path.is_file()
                path.chmod(mode or (0o640 if secret else 0o644))
            os.utime(path, (epoch, epoch), follow_symlinks=False)
        made = to / f"{package.name}_{version}_{architecture}.deb"
        run(
            "dpkg-deb", "--root-owner-group", f"-Z{compression}", "-z4", "--build", tree, made,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch)},
        )  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--to", type=Path, default=ROOT / "build/deb", help="folder of the packages"
    )
    parser.add_argument("--only", choices=sorted(PACKAGES), help="one package (default: both)")
    parser.add_argument(
        "--architecture", choices=sorted(MACHINES), action="append", help="default: all"
    )
    parser.add_argument("--compression", choices=("xz", "none"), default="xz")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    _, epoch = release()
    with tempfile.TemporaryDirectory() as folder:
        run(
            sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder,
            cwd=ROOT, env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch)},
        )  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        for name in [options.only] if options.only else PACKAGES:
            for architecture in options.architecture or MACHINES:
                made = build(PACKAGES[name], architecture, wheel, options.to, options.compression)
                print(f"{made}: {made.stat().st_size / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
