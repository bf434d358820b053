"""Where the workers' ring files lie."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from muster_agent.base.config import Config
from muster_agent.storage.files import make_directory

NAME = "rings"
ROOM_RINGS = 4
"""So many must fit into what is free: a worker, the one that follows it, and a challenger's two."""


def _free_bytes(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def rings_directory(config: Config, free_bytes: Callable[[Path], int] = _free_bytes) -> Path:
    """In ``run_dir``, which a device has in memory, where there is room; else beside the data.

    Each answer writes to a ring. On a disk that wears flash out, and an answer waits for tens of
    milliseconds whenever the kernel has just written its page back. What memory loses with the
    power, telemetry has saved but for the last seconds. Raises OSError.
    """
    wanted, on_disk = config.run_dir / NAME, config.directory / NAME
    make_directory(config.run_dir)
    room = ROOM_RINGS * config.settings.limits.ring_bytes
    if not _in_use(wanted) and free_bytes(config.run_dir) < room:
        return on_disk
    if wanted.resolve() != on_disk.resolve():
        shutil.rmtree(on_disk, ignore_errors=True)  # of an agent that had them there
    return wanted


def _in_use(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())
