"""What this device is and can run, read from the system without importing any runtime."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal

from muster_agent import runtimes
from muster_agent.isolation.cage import available
from muster_agent.observe.energy import EnergySource
from muster_agent.selfupdate.launcher import launched
from muster_agent.storage.content import disk_free_bytes
from muster_protocol.wire import contact, directive, manifest, sampling, trace
from muster_protocol.wire.messages import Facts

DISTRIBUTION = "muster-edge"
CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
UNDERSTANDS = (
    "attempt", "drift", contact.FIELD, directive.DIAGNOSES, directive.FEED_WATCHES,
    directive.FEED_SETTINGS, directive.RESTART, directive.LOG_WATCH, manifest.UNDERSTANDS,
    manifest.BASELINE_UNDERSTANDS, sampling.UNDERSTANDS, sampling.UNDERSTANDS_BLUR, trace.FIELD,
)  # fmt: skip
"""What came after the first formats: fields of a directive or its slots, and of
manifests and baselines the second."""
OWN_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def agent_version() -> str:
    """Version of the installed distribution."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def usable_runtimes(allow: tuple[str, ...]) -> dict[str, str]:
    """Installed runtimes and their versions, in a fixed order, restricted to ``allow`` if given."""
    return {name: v for name, v in runtimes.available().items() if not allow or name in allow}


def providers(allow: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """What each usable runtime can compute with here."""
    return {name: has for name, has in runtimes.providers().items() if not allow or name in allow}


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_free_bytes() -> int:
    """What may be taken without swapping, by the system's and the service's limit; 0: unknown."""
    try:
        free = _entry(MEMINFO.read_text(), "MemAvailable:") * 1024
    except OSError:
        return 0
    try:
        own = CGROUPS / OWN_CGROUP.read_text().rpartition("::")[2].strip().lstrip("/")
        most = int((own / "memory.max").read_text())
        used = int((own / "memory.current").read_text())
        cached = _entry((own / "memory.stat").read_text(), "inactive_file")
    except (OSError, ValueError):
        return free  # No limit of its own, or none that can be read.
    return max(min(free, most - used + cached), 1)


def _entry(text: str, key: str) -> int:
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) for words in lines if words and words[0] == key), 0)


def cpu_features(cpuinfo: str, machine: str) -> frozenset[str]:
    """The machine and the features that all cores of a ``/proc/cpuinfo`` share; empty: unknown."""
    cores = [
        set(words.split())
        for key, _, words in (line.partition(":") for line in cpuinfo.splitlines())
        if key.strip() in ("flags", "Features")
    ]
    return frozenset({machine, *set.intersection(*cores)}) if cores else frozenset()


KeyPlace = Literal["file", "hardware", ""]


def cpu() -> frozenset[str]:
    """Architecture and processor features by Linux's names; a manifest's ``cpu`` asks for them."""
    try:
        return cpu_features(CPUINFO.read_text(errors="replace"), platform.machine())
    except OSError:
        return frozenset()


def read(
    directory: Path,
    allow: tuple[str, ...] = (),
    energy: EnergySource = "",
    key: KeyPlace = "",
) -> Facts:
    """What the report says of machine and agent."""
    return Facts(
        agent_version=agent_version(),
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=".".join(map(str, sys.version_info[:3])),
        runtimes=usable_runtimes(allow),
        providers=providers(allow),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory_bytes(),
        disk_free_bytes=disk_free_bytes(directory),
        energy=energy,
        isolation=available().value,
        key=key,
        understands=UNDERSTANDS + ((directive.AGENT,) if launched() else ()),
    )
