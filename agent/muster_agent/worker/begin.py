"""A worker's start: open what it will ever need, be isolated, prove the model.

The order is the point. A model's bytes are first parsed when nothing else can be opened, and it is
first asked when nothing can be opened at all.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import UNSET

from muster_agent import runtimes
from muster_agent.base.system_error import as_refusal
from muster_agent.isolation.cage import Cage, Rung, available
from muster_agent.isolation.kernel import IsolationError
from muster_agent.runtimes import Model
from muster_agent.runtimes.base import Needs
from muster_agent.worker import limits, startup
from muster_agent.worker.bundle import OpenBundle, StartRefused, choose_build, read_manifest
from muster_agent.worker.control import Start
from muster_agent.worker.engine import Engine
from muster_agent.worker.events import Facts
from muster_agent.worker.fallback import FallbackContract, seed_last_good
from muster_agent.worker.last_input import LastInput, LastInputError
from muster_agent.worker.ring import Ring, RingError, RingReader
from muster_agent.worker.shadow import Replay, open_champion
from muster_agent.worker.tensors import request_bytes_max
from muster_protocol.wire.errors import ProtocolError, Refusal
from muster_protocol.wire.manifest import Manifest


class Opened(NamedTuple):
    """All that a worker has open while it serves, but for its sockets."""

    manifest: Manifest
    manifest_sha256: str
    files: OpenBundle | None
    """None: it answers with the fallback and loads no model."""
    ring: Ring | None
    champion: RingReader | None
    last_input: LastInput | None
    fallback: FallbackContract | None


def open_all(start: Start) -> Opened:
    """Everything that a worker reads from the disk, and its imports; raises StartRefused."""
    manifest, sha256 = read_manifest(Path(start.bundle), start.manifest_sha256)
    limits.keep_status_open()
    ring = _ring(start)
    if start.shadow is not None and ring is None:
        raise StartRefused(Refusal.NO_SPACE, "a challenger needs a ring of its own")
    try:
        last_input = LastInput(Path(start.last_input)) if start.last_input is not None else None
    except OSError as error:
        refusal, words = as_refusal(error, Refusal.NO_SPACE)
        raise StartRefused(refusal, f"a last input can't be noted: {words}") from None
    except LastInputError as error:
        raise StartRefused(Refusal.NO_SPACE, f"a last input can't be noted: {error}") from None
    return Opened(
        manifest,
        sha256,
        _files(start, manifest),
        ring,
        open_champion(start.shadow) if start.shadow is not None else None,
        last_input,
        _fallback(start, manifest),
    )


def isolate(start: Start, opened: Opened) -> Cage:
    """Close the process for loading; raises StartRefused where that is required and can't be."""
    limits.confine_process(start.supervisor_tasks)
    needs = _needs(opened.files)
    cage = Cage(
        available(Rung.NONE if needs == "device" else start.rung), makes_code=needs == "code"
    )
    if start.isolation == "required" and cage.rung is Rung.NONE:
        what = "this kernel offers no filter of system calls"
        if needs == "device":
            what = "a device's driver can't be isolated"
        raise StartRefused(
            Refusal.NO_ISOLATION, f"{what}, and the device's settings require isolation"
        )
    try:
        cage.close_for_loading((Path(start.bundle),))
    except IsolationError as error:
        raise StartRefused(Refusal.NO_ISOLATION, str(error)) from None
    return cage


def prove(start: Start, opened: Opened, cage: Cage) -> tuple[Model | None, Facts]:
    """The model, proved, and what that showed; raises StartRefused."""
    if opened.files is None:
        return None, Facts(isolation=cage.described)
    with opened.files as files:
        in_memory = not cage.rung.opens_files
        held_bytes = files.manifest.file(files.build.file).size_bytes if in_memory else 0
        limits.confine_memory(
            files.build.memory_bytes + held_bytes, request_bytes_max(opened.manifest)
        )
        limits.confine_cpu(opened.manifest.start.cpu_seconds)
        threads = min(start.threads, cage.rung.threads_max or start.threads)
        model, facts = startup.prove(
            files,
            threads=threads,
            in_memory=in_memory,
            request_seconds=start.request_seconds,
            strict=start.strict,
        )
        limits.lift_cpu()
    return model, facts.on(cage.described)


def engine_of(start: Start, opened: Opened, model: Model | None, facts: Facts) -> Engine:
    """What serves; it takes no more at once than it can answer before the kernel ends it."""
    seconds = facts.latency_ms / 1e3
    share = start.request_seconds / seconds if seconds else float("inf")
    return Engine(
        opened.manifest,
        model,
        manifest_sha256=opened.manifest_sha256,
        ring=opened.ring,
        fallback=opened.fallback,
        last_input=opened.last_input,
        memory_bytes=opened.files.build.memory_bytes if opened.files is not None else 0,
        elements_max=max(max(facts.golden_elements, 1) * max(share, 1.0), facts.largest_elements),
    )


def replay_of(opened: Opened, model: Model | None) -> Replay:
    """The challenger's replay; raises StartRefused when there is nothing to compare."""
    assert opened.ring is not None
    assert opened.champion is not None
    assert model is not None, "a challenger is a model"
    return Replay(opened.manifest, model, opened.champion, opened.ring)


def _needs(files: OpenBundle | None) -> Needs:
    """What computes the model asks of its process."""
    if files is None or files.build.providers is UNSET:
        return "nothing"
    return runtimes.needs(files.build.runtime, files.build.providers)


def _files(start: Start, manifest: Manifest) -> OpenBundle | None:
    if start.runtime is None:
        return None
    build = choose_build(manifest, start.runtime, ())
    try:
        runtimes.prepare(build.runtime)
    except (runtimes.NoRuntimeError, ImportError) as error:
        raise StartRefused(Refusal.NO_RUNTIME, str(error)) from None
    _import_late_modules()
    return OpenBundle(Path(start.bundle), manifest, build)


def _import_late_modules() -> None:
    """What NumPy imports at the first use: later nothing can be imported."""
    archive = io.BytesIO()
    np.savez(archive, x=np.zeros(1, np.float32))
    archive.seek(0)
    with np.load(archive, allow_pickle=False) as arrays:
        np.percentile(arrays["x"], [50, 95])


def _ring(start: Start) -> Ring | None:
    try:
        return Ring(Path(start.ring)) if start.ring is not None else None
    except RingError as error:
        raise StartRefused(Refusal.NO_SPACE, f"the ring can't be used: {error}") from None


def _fallback(start: Start, manifest: Manifest) -> FallbackContract | None:
    if start.fallback is None:
        return None
    try:
        contract = FallbackContract(manifest, start.fallback)
    except ProtocolError as error:
        raise StartRefused(Refusal.MALFORMED, str(error)) from None
    if start.previous_ring is not None and contract.remembers:
        seed_last_good(contract, manifest, Path(start.previous_ring))
    return contract
