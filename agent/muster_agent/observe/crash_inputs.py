"""Inputs on which a model crashed, kept on the device while the directive's policy allows it.

They are raw data: they never leave the device by themselves, are readable by the agent's user only,
few, and gone as soon as the policy no longer asks for them.
"""

import contextlib
import io
import logging
import zipfile
from pathlib import Path

import numpy as np

from muster_agent.storage.files import make_directory, write_durably
from muster_agent.worker import last_input
from muster_agent.worker.last_input import LastInput, LastInputError

KEPT_MAX = 4
NAME_CHARS_MAX = 256
WORKING = ".input"
log = logging.getLogger(__name__)


class CrashInputs:
    """One directory: ``<worker>.input`` while a worker lives, ``<worker>.npz`` what crashed it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._allowed = False
        for left in self._files(WORKING):  # Their workers ended with the agent, not by a fault.
            left.unlink(missing_ok=True)

    def allow(self, allowed: bool) -> None:  # noqa: FBT001 - it is all it says
        """The policy in force; without it nothing is kept, nor what was kept before."""
        self._allowed = allowed
        if not allowed:
            for kept in self._files(".npz"):
                kept.unlink(missing_ok=True)

    def begin(self, worker_id: str) -> Path | None:
        """Where a new worker is to note its requests; None when it is to note nothing."""
        if not self._allowed:
            return None
        path = self._directory / (worker_id + WORKING)
        try:
            make_directory(self._directory, mode=0o700)
            LastInput.create(path)
        except OSError as error:
            log.warning("the input of a crash would not be kept: %s", error)
            return None
        return path

    def end(self, worker_id: str, *, crashed: bool) -> str:
        """Keep what the worker was at if it crashed; what became of it in words, or nothing."""
        path = self._directory / (worker_id + WORKING)
        if not path.exists():
            return ""
        try:
            inputs = last_input.read(path) if crashed and self._allowed else None
            if inputs is None:
                return ""
            return f"the input it crashed on is kept in {self._keep(worker_id, inputs)}"
        except (OSError, LastInputError, ValueError) as error:
            return f"the input it crashed on is not kept: {error}"
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _keep(self, worker_id: str, inputs: last_input.Inputs) -> Path:
        for oldest in self._files(".npz")[: -(KEPT_MAX - 1)]:
            oldest.unlink(missing_ok=True)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as made:  # np.savez takes no tensor named "file"
            for name, array in inputs.items():
                with made.open(f"{name[:NAME_CHARS_MAX]}.npy", "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        path = self._directory / f"{worker_id}.npz"
        write_durably(path, archive.getbuffer(), mode=0o600)
        return path

    def _files(self, suffix: str) -> list[Path]:
        """The oldest first."""
        if not self._directory.is_dir():
            return []
        found = [path for path in self._directory.iterdir() if path.suffix == suffix]
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
