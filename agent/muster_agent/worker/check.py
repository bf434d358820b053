"""The release check: ``python -m muster_agent.worker.check BUNDLE_DIR [--runtime NAME]``.

Takes a bundle directory (``manifest.json`` plus files) through the very start-up that a device
will put it through, each build in a worker of its own under its limits, and prints one line of
JSON. Exit code 0: every build passed; 1: refused; 2: wrong usage.
"""

import argparse
import queue
import sys
from pathlib import Path
from typing import assert_never

import msgspec

from muster_agent.isolation import kernel
from muster_agent.isolation.cage import Policy
from muster_agent.runtimes import RUNTIMES
from muster_agent.worker.bundle import StartRefused, read_manifest
from muster_agent.worker.events import Drained, Exited, Facts, Failed, Heartbeat, Ready, WorkerEvent
from muster_agent.worker.process import WorkerProcess, WorkerSpec, threads_of
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Build, Manifest

MARGIN_SECONDS = 30.0
"""On top of the manifest's own start limit, before the check gives up on its worker."""


class BuildVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one build of a bundle that was tried."""

    runtime: str
    ok: bool
    refusal: Refusal | None = None
    detail: str = ""
    facts: Facts | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the check prints."""

    ok: bool
    model: str = ""
    version: str = ""
    refusal: Refusal | None = None
    """Why the bundle as a whole was refused: its manifest can't be read."""
    detail: str = ""
    builds: tuple[BuildVerdict, ...] = ()


def check(bundle: Path, runtime: str | None = None, isolation: Policy = "auto") -> Verdict:
    """Check every build of a bundle, or the one for ``runtime``."""
    try:
        manifest, sha256 = read_manifest(bundle)
    except StartRefused as error:
        return Verdict(ok=False, refusal=error.refusal, detail=str(error))
    chosen = [build for build in manifest.builds if runtime in {None, build.runtime}]
    builds = tuple(check_build(bundle, manifest, sha256, build, isolation) for build in chosen)
    missing = "" if chosen else f"the manifest has no build for {runtime}"
    return Verdict(
        ok=bool(builds) and all(build.ok for build in builds),
        model=manifest.model,
        version=manifest.version,
        refusal=None if chosen else Refusal.NO_RUNTIME,
        detail=missing,
        builds=builds,
    )


def check_build(
    bundle: Path, manifest: Manifest, sha256: str, build: Build, isolation: Policy = "auto"
) -> BuildVerdict:
    """Start one worker that serves nobody, hear how it went, and stop it."""
    events: queue.Queue[WorkerEvent] = queue.Queue()
    spec = WorkerSpec(
        worker_id=f"check-{build.runtime}",
        bundle=bundle,
        manifest=manifest,
        manifest_sha256=sha256,
        build=build,
        threads=threads_of(build),
        first=True,
        isolation=isolation,
        strict=True,
    )
    worker = WorkerProcess(spec, events.put)
    worker.start()
    try:
        event = events.get(timeout=manifest.start.wall_seconds + MARGIN_SECONDS)
    except queue.Empty:
        event = Failed(spec.worker_id, Refusal.START_TIMEOUT, "the worker never answered")
    finally:
        worker.stop(0.5)
        worker.wait(MARGIN_SECONDS)
    match event:
        case Ready(facts=facts):
            return BuildVerdict(runtime=build.runtime, ok=True, facts=facts)
        case Failed(refusal=refusal, detail=detail):
            return BuildVerdict(runtime=build.runtime, ok=False, refusal=refusal, detail=detail)
        case Heartbeat() | Drained() | Exited():
            return BuildVerdict(
                runtime=build.runtime, ok=False, refusal=Refusal.WORKER_DIED, detail=str(event)
            )
        case _:
            assert_never(event)


def main(arguments: list[str] | None = None) -> int:
    """Try every build that this machine has a runtime for; prints JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m muster_agent.worker.check",
        description="Check a bundle as a device would before serving it.",
    )
    parser.add_argument("bundle", type=Path, help="directory with manifest.json and the files")
    parser.add_argument("--runtime", choices=tuple(RUNTIMES), help="check only this build")
    parser.add_argument(
        "--isolation", choices=("auto", "required"), default="auto",
        help="required: refuse to load a model where the kernel can't isolate it",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    verdict = check(options.bundle, options.runtime, options.isolation)
    sys.stdout.buffer.write(msgspec.json.encode(verdict) + b"\n")
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    kernel.hide()
    sys.exit(main())
