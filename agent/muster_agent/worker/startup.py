"""From a bundle on disk to a model that has proved itself on this device.

The steps, in order: hash the files, load through the same descriptors, bind the manifest's tensor
names, reproduce the golden vectors, warm up, keep the latency budget, answer as clients will ask.
Each failure is a StartRefused with its own refusal.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import UNSET

from muster_agent import runtimes
from muster_agent.runtimes import Model, ModelError, NoRuntimeError, OutOfMemoryError
from muster_agent.runtimes.base import MODEL_FILE
from muster_agent.worker import golden, limits, rehearsal
from muster_agent.worker.binding import bound
from muster_agent.worker.bundle import OpenBundle, StartRefused, choose_build, read_manifest
from muster_agent.worker.engine import Engine
from muster_agent.worker.events import Facts
from muster_agent.worker.golden import Case
from muster_agent.worker.ring import Ring
from muster_agent.worker.sessions import SessionModel
from muster_protocol.wire.errors import Refusal
from muster_protocol.wire.manifest import Build, Manifest, ProviderName


def prove(
    files: OpenBundle,
    *,
    threads: int = 1,
    in_memory: bool = False,
    request_seconds: float = float("inf"),
    strict: bool = False,
) -> tuple[Model, Facts]:
    """Load a build from its open files and prove it; raises StartRefused.

    ``in_memory`` where nothing can be opened any more: the model's file is read as a whole.
    ``request_seconds`` is what a request may take. ``strict`` asks of a manifest of format 1 what
    is always asked of a later one: that batches of two are answered, and nothing is remembered.
    """
    manifest, build = files.manifest, files.build
    memory = limits.address_space_bytes()
    begun = time.monotonic()
    load = _Loader(files, threads, in_memory=in_memory or _keeps_sessions(manifest))
    try:
        model = load()
        loaded = time.monotonic()
        with files.file(manifest.golden.file) as file:
            cases = golden.read(file, manifest)
        for case in cases:
            fault = golden.compare(model.run(case.inputs), case, manifest.golden)
            if fault is not None:
                raise StartRefused(Refusal.GOLDEN_MISMATCH, f"golden vectors: {fault}")
        latency_ms = _warm_up(model, cases[0], manifest.start.warmup_runs)
        _check_latency(manifest, latency_ms)
        asked = rehearsal.rehearse(
            manifest,
            model,
            build.runtime,
            cases,
            strict=strict or manifest.format > 1,
            request_seconds=request_seconds,
        )
        model = _fresh(manifest, model, load)
    except NoRuntimeError as error:
        raise StartRefused(Refusal.NO_RUNTIME, str(error)) from None
    except (OutOfMemoryError, MemoryError) as error:
        raise _too_big(manifest, build, error) from None
    except ModelError as error:
        raise StartRefused(Refusal.LOAD_FAILED, str(error)) from None
    return model, Facts(
        runtime=build.runtime,
        runtime_version=runtimes.version_of(build.runtime),
        providers=load.providers,
        threads=threads,
        load_seconds=loaded - begun,
        golden_cases=len(cases),
        golden_elements=sum(array.size for array in cases[0].inputs.values()),
        latency_ms=latency_ms,
        largest_elements=asked.elements,
        largest_ms=asked.seconds * 1e3,
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


class _Loader:
    """What loads the build, as often as it is called."""

    def __init__(self, files: OpenBundle, threads: int, *, in_memory: bool) -> None:
        self.providers: tuple[ProviderName, ...] = ()
        """What computed the model that was loaded last."""
        self._manifest, self._build = files.manifest, files.build
        self._threads = threads
        self._source: Path | bytes = files.path(self._build.file)
        if in_memory:
            with files.file(self._build.file) as file:
                self._source = file.read()
        self._descriptors = files.descriptors

    def __call__(self) -> Model:
        """Raises ModelError."""
        build = self._build
        try:
            model = runtimes.load(
                build.runtime,
                self._source,
                threads=self._threads,
                side_files=self._descriptors,
                providers=() if build.providers is UNSET else build.providers,
            )
            self.providers = model.providers
            return bound(model, self._manifest.inputs, self._manifest.outputs)
        except ModelError as error:
            raise type(error)(str(error).replace(MODEL_FILE, build.file)) from None


def _keeps_sessions(manifest: Manifest) -> bool:
    return manifest.kind_of_state == "internal" and manifest.sessions == "per_connection"


def _fresh(manifest: Manifest, model: Model, load: Callable[[], Model]) -> Model:
    """What serves: a model that remembers must not remember its proof."""
    if manifest.kind_of_state != "internal":
        return model
    return SessionModel(load) if _keeps_sessions(manifest) else load()


def _check_latency(manifest: Manifest, latency_ms: float) -> None:
    budget_ms = manifest.start.latency_ms_max
    if budget_ms is not None and latency_ms > budget_ms:
        raise StartRefused(
            Refusal.TOO_SLOW,
            f"too slow here: median {latency_ms:.2f} ms, the latency budget is {budget_ms:g} ms",
        )


def _too_big(manifest: Manifest, build: Build, error: Exception) -> StartRefused:
    return StartRefused(
        Refusal.NO_MEMORY,
        f"{manifest.model} {manifest.version} needs more than its "
        f"{build.memory_bytes} bytes: {str(error) or 'out of memory'}",
    )


def _warm_up(model: Model, case: Case, runs: int) -> float:
    """Median milliseconds of ``runs`` runs, 0 for none."""
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        model.run(case.inputs)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1e3 if seconds else 0.0
