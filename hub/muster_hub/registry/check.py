"""The release check's shell: run a bundle in the agent's own worker, in a process of its own."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from muster_hub.errors import HubError
from muster_protocol.wire.manifest import Manifest

OUTPUT_BYTES_MAX = 1 << 20
_NEEDED = ("numpy", "muster_agent")


class CheckUnavailable(HubError):
    """The hub can't check models as it is installed."""

    code = "check_unavailable"
    status = 503


class CheckResult(msgspec.Struct, frozen=True):
    """What running the builds showed. ``reason`` is empty when all is well."""

    ok: bool
    reason: str = ""
    builds: list[dict[str, Any]] = []
    baseline_format: int = 1
    """Of the bundle's baseline: agents that don't read it aren't given the version."""


class Checker(Protocol):
    """Tries a pushed bundle's builds, in a process of its own."""

    def __call__(self, bundle: Path, manifest: Manifest) -> CheckResult: ...


class WorkerCheck:
    """Loads every build and runs its golden vectors under the worker's limits on a device.

    ``wall_seconds`` bounds the whole check; a worker that takes longer is killed and refused. The
    worker isolates itself as on a device; ``required`` checks nothing where it can't.
    """

    def __init__(
        self, wall_seconds: float, isolation: Literal["auto", "required"] = "auto"
    ) -> None:
        self._wall_seconds = wall_seconds
        self._isolation = isolation

    def __call__(self, bundle: Path, manifest: Manifest) -> CheckResult:
        """Raises CheckUnavailable when the agent's code or a runtime isn't installed here."""
        for module in _NEEDED:
            if importlib.util.find_spec(module) is None:
                raise CheckUnavailable(_missing("agent", f"{module} isn't installed"))
        code, output, errors = self._run(bundle)
        if code is None:
            return CheckResult(ok=False, reason=f"took longer than {self._wall_seconds:g} s")
        try:
            result = msgspec.json.decode(output, type=CheckResult)
        except msgspec.DecodeError:
            lines = errors.decode(errors="replace").strip().splitlines()
            said = lines[-1] if lines else f"it ended with {code}"
            raise CheckUnavailable(f"the worker that checks models didn't answer: {said}") from None
        for build in result.builds:
            if build.get("refusal") == "no_runtime":
                runtime = build.get("runtime", "?")
                detail = f"the {runtime} build can't be run ({build.get('detail', '')})"
                raise CheckUnavailable(_missing(runtime, detail))
            if build.get("refusal") == "no_isolation":
                raise CheckUnavailable(f"the version can't be checked: {build.get('detail')}")
        if result.ok and len(result.builds) != len(manifest.builds):
            return CheckResult(ok=False, reason="not every build was run", builds=result.builds)
        return msgspec.structs.replace(result, reason=_reason(result))

    def _run(self, bundle: Path) -> tuple[int | None, bytes, bytes]:
        """(Exit code or None when time ran out, standard output, standard error)."""
        process = subprocess.Popen(
            # -P: a file of the bundle must never be imported as if it were a module.
            [
                *(sys.executable, "-P", "-m", "muster_agent.worker.check", str(bundle)),
                *("--isolation", self._isolation),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=bundle,
            env=_environment(),
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=self._wall_seconds)
        except subprocess.TimeoutExpired:
            return None, b"", b""
        else:
            return process.returncode, output[:OUTPUT_BYTES_MAX], errors[:OUTPUT_BYTES_MAX]
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the check's process group behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _environment() -> dict[str, str]:
    """Nothing of the hub's environment reaches a model but what Python needs to start."""
    kept = ("PATH", "PYTHONPATH", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _reason(result: CheckResult) -> str:
    faults = [
        f"{build.get('runtime')}: {build.get('refusal')}: {build.get('detail')}"
        for build in result.builds
        if not build.get("ok")
    ]
    return "; ".join(faults) or ("" if result.ok else "the check failed without a reason")


def _missing(extra: str, what: str) -> str:
    return (
        f"{what} on the hub, so the version can't be checked: "
        f"pip install 'muster-edge[agent,{extra}]' there and check it again"
    )
