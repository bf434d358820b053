"""What this device is and can run, read from the system without importing any runtime."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from muster_agent.observe.energy import Source
from muster_agent.runtimes import available
from muster_agent.store import disk_free_bytes
from muster_protocol.messages import Facts

DISTRIBUTION = "muster-edge"
CPUINFO = Path("/proc/cpuinfo")


def agent_version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def usable_runtimes(allow: tuple[str, ...]) -> dict[str, str]:
    """Installed runtimes and their versions, in a fixed order, restricted to ``allow`` if given."""
    return {name: v for name, v in available().items() if not allow or name in allow}


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What a new process could take without pushing others out; 0 when the system doesn't say."""
    try:
        lines = meminfo.read_text().splitlines()
        told = next((line for line in lines if line.startswith("MemAvailable:")), "")
        return int(told.split()[1]) * 1024 if told else 0
    except (OSError, ValueError, IndexError):
        return 0


def cpu_features(cpuinfo: str, machine: str) -> frozenset[str]:
    """The machine and the features that all cores of a ``/proc/cpuinfo`` share; empty: unknown."""
    cores = [
        set(words.split())
        for key, _, words in (line.partition(":") for line in cpuinfo.splitlines())
        if key.strip() in ("flags", "Features")
    ]
    return frozenset({machine, *set.intersection(*cores)}) if cores else frozenset()


def cpu() -> frozenset[str]:
    try:
        return cpu_features(CPUINFO.read_text(errors="replace"), platform.machine())
    except OSError:
        return frozenset()


def read(directory: Path, allow: tuple[str, ...] = (), energy: Source = "") -> Facts:
    return Facts(
        agent_version=agent_version(),
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=".".join(map(str, sys.version_info[:3])),
        runtimes=usable_runtimes(allow),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory_bytes(),
        disk_free_bytes=disk_free_bytes(directory),
        energy=energy,
    )
