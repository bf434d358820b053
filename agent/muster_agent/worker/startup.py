"""From a bundle on disk to a model that has proved itself on this device.

The steps, in order: hash the files, load through the same descriptors, bind the manifest's tensor
names, reproduce the golden vectors, warm up, keep the latency budget. Each failure is a
StartRefused with its own refusal.
"""

import statistics
import time
from pathlib import Path

from muster_agent import runtimes
from muster_agent.runtimes import Model, ModelError, NoRuntimeError, OutOfMemoryError
from muster_agent.worker import golden, limits
from muster_agent.worker.bundle import OpenBundle, StartRefused, choose_build, read_manifest
from muster_agent.worker.engine import Engine
from muster_agent.worker.events import Facts
from muster_agent.worker.golden import Case
from muster_agent.worker.ring import Ring
from muster_agent.worker.tensors import bound
from muster_protocol.wire.errors import Refusal


def prove(files: OpenBundle, *, threads: int = 1, in_memory: bool = False) -> tuple[Model, Facts]:
    """Load a build from its open files and prove it; raises StartRefused.

    ``in_memory`` where nothing can be opened any more: the model's file is read as a whole.
    """
    manifest, build = files.manifest, files.build
    memory = limits.address_space_bytes()
    begun = time.monotonic()
    try:
        model = bound(
            runtimes.load(
                build.runtime,
                _source(files, in_memory=in_memory),
                threads=threads,
                side_files=files.descriptors,
            ),
            manifest.inputs,
            manifest.outputs,
        )
        loaded = time.monotonic()
        with files.file(manifest.golden.file) as file:
            cases = golden.read(file, manifest)
        for case in cases:
            fault = golden.compare(model.run(case.inputs), case, manifest.golden)
            if fault is not None:
                raise StartRefused(Refusal.GOLDEN_MISMATCH, f"golden vectors: {fault}")
        latency_ms = _warm_up(model, cases[0], manifest.start.warmup_runs)
    except NoRuntimeError as error:
        raise StartRefused(Refusal.NO_RUNTIME, str(error)) from None
    except (OutOfMemoryError, MemoryError) as error:
        raise StartRefused(
            Refusal.NO_MEMORY,
            f"{manifest.model} {manifest.version} needs more than its "
            f"{build.memory_bytes} bytes: {str(error) or 'out of memory'}",
        ) from None
    except ModelError as error:
        raise StartRefused(Refusal.LOAD_FAILED, str(error)) from None
    budget_ms = manifest.start.latency_ms_max
    if budget_ms is not None and latency_ms > budget_ms:
        raise StartRefused(
            Refusal.TOO_SLOW,
            f"too slow here: median {latency_ms:.2f} ms, the latency budget is {budget_ms:g} ms",
        )
    return model, Facts(
        runtime=build.runtime,
        runtime_version=runtimes.version_of(build.runtime),
        load_seconds=loaded - begun,
        golden_cases=len(cases),
        golden_elements=sum(array.size for array in cases[0].inputs.values()),
        latency_ms=latency_ms,
        memory_bytes=max(limits.address_space_peak_bytes() - memory, 0),
        rss_bytes=limits.resident_bytes(),
    )


def open_engine(bundle: Path, *, runtime: str | None = None, ring: Ring | None = None) -> Engine:
    """An engine in the caller's own process, proved as a worker would; raises StartRefused."""
    manifest, sha256 = read_manifest(bundle)
    build = choose_build(manifest, runtime, tuple(runtimes.available()))
    with OpenBundle(bundle, manifest, build) as files:
        model, _ = prove(files)
    return Engine(manifest, model, manifest_sha256=sha256, ring=ring)


def _source(files: OpenBundle, *, in_memory: bool) -> Path | bytes:
    if not in_memory:
        return files.path(files.build.file)
    with files.file(files.build.file) as file:
        return file.read()


def _warm_up(model: Model, case: Case, runs: int) -> float:
    """Median milliseconds of ``runs`` runs, 0 for none."""
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        model.run(case.inputs)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1e3 if seconds else 0.0
