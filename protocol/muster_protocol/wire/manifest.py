"""The manifest: what a bundle is. Its hash is what release keys sign.

A bundle holds one model version in one or more builds (ONNX, TFLite); a device fetches only the
files of the build it can run. Everything the bundle's files say is covered by their hashes here.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from muster_protocol.wire import bounds, feeding, imaging, limits
from muster_protocol.wire.bounds import Amount, Count, Finite, Format, Integer, Line, Name, Text
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from muster_protocol.wire.imaging import InputImage
from muster_protocol.wire.tensors import (
    Label,
    ModelState,
    Tensor,
    check_state,
    check_tensor,
    format_of,
)
from muster_protocol.wire.topics import check_name, check_sha256, check_version

FORMATS = (1, 2)
UNDERSTANDS = "manifest-2"
"""What an agent that reads format 2 names among its facts; the hub gives it to no other."""
BASELINE_UNDERSTANDS = "baseline-2"
"""The same of a baseline that knows training in time: an agent without it would run the model and
count none of its features."""

Runtime = Literal["onnx", "tflite"]
Sha256 = Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]{64}\Z")]
"""``$`` would let a newline through."""
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
Path = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle. ``index`` names its chunk index's chunks; empty for a single chunk."""

    path: Path
    size_bytes: Annotated[int, Meta(ge=0, le=limits.BUNDLE_BYTES_MAX)]
    sha256: Sha256
    index: Annotated[tuple[Sha256, ...], Meta(max_length=16)] = ()


ProviderName = Literal["CPU", "CUDA", "TensorRT", "OpenVINO", "XNNPACK"]
PROVIDERS: Mapping[Runtime, tuple[ProviderName, ...]] = MappingProxyType(
    {"onnx": ("CPU", "CUDA", "TensorRT", "OpenVINO"), "tflite": ("CPU", "XNNPACK")}
)
"""Those that each runtime may have."""
OptionName = Annotated[str, Meta(max_length=64, pattern=r"^[a-z0-9_]{1,64}\Z")]
OptionValue = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_.,:-]{0,64}\Z")]
"""Nothing that could name a file elsewhere."""


class Provider(Struct, frozen=True, forbid_unknown_fields=True):
    """What computes: an execution provider of ONNX Runtime, a delegate of TFLite, and its
    options."""

    name: ProviderName
    options: Annotated[dict[OptionName, OptionValue], Meta(max_length=16)] = {}


class Build(Struct, frozen=True, forbid_unknown_fields=True):
    """The model in one runtime's format, with what it needs to run."""

    runtime: Runtime
    file: Path
    memory_bytes: Annotated[int, Meta(ge=limits.MIB, le=64 * 1024 * limits.MIB)]
    """Address space the worker may grow by while loading and running the model."""
    opset: Count | None = None
    cpu: (
        Annotated[
            tuple[Annotated[str, Meta(max_length=32, pattern=r"^[a-z0-9_]{1,32}\Z")], ...],
            Meta(max_length=32),
        ]
        | UnsetType
    ) = UNSET
    """What every core of a device must have: its machine (``x86_64``, ``aarch64``) and features as
    Linux names them in ``/proc/cpuinfo`` (``avx2``, ``asimddp``). Absent: any will do."""
    providers: Annotated[tuple[Provider, ...], Meta(min_length=1, max_length=4)] | UnsetType = UNSET
    """In order of preference. A device uses the first that it has, and leaves to those after it
    what that one can't compute; one that has none refuses. Absent: what the runtime itself takes on
    a processor."""
    threads: Annotated[int, Meta(ge=1, le=limits.THREADS_MAX)] | UnsetType = UNSET
    """For one request, as far as the device has so many cores. Absent: one."""


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs and expected outputs a candidate must reproduce on the device before it serves.

    ``file`` is an ``.npz``. In format 1 its arrays are ``input:<tensor>`` and ``output:<tensor>``,
    cases first. In format 2 they are ``<case>/input:<tensor>`` and ``<case>/output:<tensor>``, each
    as a request and its answer have it, with the cases numbered from 0. A case passes where
    ``|got - want| <= atol + rtol * |want|`` for every element, or both are NaN.
    """

    file: Path
    rtol: Annotated[float, Meta(ge=0, le=limits.GOLDEN_RTOL_MAX)] = 1e-3
    atol: Annotated[float, Meta(ge=0, le=limits.GOLDEN_ATOL_MAX)] = 1e-4


class Classifier(Struct, frozen=True, forbid_unknown_fields=True):
    """How an output is read as classes: ``output`` holds one score per class, summing to one."""

    output: Label
    classes: Annotated[tuple[Line, ...], Meta(min_length=2, max_length=limits.CLASSES_MAX)]


class Agreement(Struct, frozen=True, forbid_unknown_fields=True):
    """When this version, as a challenger, agrees with a champion; of classifiers, on the class.

    Otherwise every number of the first output must be within ``absolute`` plus ``relative`` of
    the champion's.
    """

    relative: Amount = 0.05
    absolute: Amount = 0.0


class Fallback(Struct, frozen=True, forbid_unknown_fields=True):
    """What answers when no model can: part of the signed bundle, never invented by the hub."""

    name: Annotated[
        str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX, pattern=bounds.LINE_PATTERN)
    ]
    kind: Literal["constant", "last_good", "no_decision"]
    outputs: Annotated[dict[Label, list[Finite]], Meta(max_length=limits.TENSORS_MAX)] = {}
    """For ``constant``: one row per output tensor."""
    ttl_seconds: Seconds = 0.0
    """For ``last_good``: how long the last answer stays good."""


class Start(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on a candidate's start-up, lifted when it is ready."""

    wall_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    cpu_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    warmup_runs: Annotated[int, Meta(ge=0, le=1000)] = 3
    latency_ms_max: Annotated[float, Meta(gt=0, le=limits.NUMBER_MAX)] | None = None
    """Median latency of the warm-up runs a candidate may not exceed."""


class Swap(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device does whose memory is too short for the new model beside the old one."""

    when_memory_short: Literal["refuse", "stop_start"] = "refuse"
    """``stop_start``: the old model stops, then the new one starts; the fallback
    answers meanwhile."""
    gap_seconds_max: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    """When the new model doesn't answer within this, the old one is started again."""


class Probation(Struct, frozen=True, forbid_unknown_fields=True):
    """How long, and how well, a new champion must serve before it is committed."""

    seconds: Seconds = 60.0
    inferences: Count = 0
    error_rate_max: Annotated[float, Meta(ge=0, le=1)] = 0.02
    latency_ratio_max: Annotated[float, Meta(gt=0, le=limits.NUMBER_MAX)] = 3.0
    """p95 against the previous model's p95 on the same device."""
    crashes_max: Count = 0


class Demotion(Struct, frozen=True, forbid_unknown_fields=True):
    """When a device goes back from this version, though committed, to the one it had before."""

    crash_loop: bool = True
    """Its worker dies again and again."""
    error_rate_max: Annotated[float, Meta(ge=0, le=1)] | None = None
    """More of its inferences fail, over hundreds of them; none: however many do."""


METRICS_MAX = 1024


class Lineage(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the version came from; shown, exported and audited, never interpreted by a device."""

    source: Text = ""
    commit: Text = ""
    data: Text = ""
    trained_at: Text = ""
    metrics: Annotated[dict[Line, Finite], Meta(max_length=METRICS_MAX)] = {}
    notes: Annotated[
        str, Meta(max_length=limits.MANIFEST_BYTES_MAX, pattern=bounds.TEXT_PATTERN)
    ] = ""


FALLBACKS_MAX = 256


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle is: its files by hash, its tensors, and what a device may expect of it."""

    format: Format = 1
    """``least_format`` says which one a manifest needs."""
    model: Name
    version: Name
    """In format 2 it may have build metadata after a ``+``, as semantic versions do."""
    created: Integer
    """Seconds since 1970 by the packer's clock; information only."""
    inputs: Annotated[tuple[Tensor, ...], Meta(min_length=1, max_length=limits.TENSORS_MAX)]
    outputs: Annotated[tuple[Tensor, ...], Meta(min_length=1, max_length=limits.TENSORS_MAX)]
    builds: Annotated[tuple[Build, ...], Meta(min_length=1, max_length=limits.BUILDS_MAX)]
    files: Annotated[tuple[File, ...], Meta(min_length=1, max_length=limits.FILES_PER_BUNDLE_MAX)]
    golden: Golden
    baseline: Path | None = None
    """File with the binned training distribution (``muster_protocol.signals.baseline``)."""
    classifier: Classifier | None = None
    agreement: Agreement | UnsetType = UNSET
    """Absent: 5 % of the champion's number."""
    fallbacks: Annotated[tuple[Fallback, ...], Meta(max_length=FALLBACKS_MAX)] = ()
    start: Start = Start()
    probation: Probation = Probation()
    swap: Swap | UnsetType = UNSET
    demotion: Demotion | UnsetType = UNSET
    state: ModelState | UnsetType = UNSET
    """Absent: none. Since format 2."""
    features: (
        Annotated[tuple[InputFeature, ...], Meta(min_length=1, max_length=limits.FEATURES_MAX)]
        | UnsetType
    ) = UNSET
    """What the input's numbers are, in order; a device's feeds fill it by these names. Since
    format 2, as ``window`` and ``quality``. Absent: programs ask."""
    image: InputImage | UnsetType = UNSET
    """How a picture becomes the input, in place of ``features``. Since format 2."""
    window: InputWindow | UnsetType = UNSET
    """Absent: the last sample of each signal, every second."""
    quality: InputQuality | UnsetType = UNSET
    """Absent: bad values are skipped."""
    lineage: Lineage = Lineage()

    @property
    def kind_of_state(self) -> Literal["none", "explicit", "internal"]:
        """What the model remembers from one request to the next."""
        return "none" if self.state is UNSET else self.state.kind

    @property
    def sessions(self) -> Literal["per_connection", "single"]:
        """Who shares a model that remembers."""
        return "single" if self.state is UNSET else self.state.sessions

    def takes_missing(self, tensor: Tensor) -> bool:
        """Whether NaN may stand for a missing value of an input."""
        return self.format == 1 if tensor.missing is UNSET else tensor.missing

    def file(self, path: str) -> File:
        """The file entry with this path; raises ProtocolError if the manifest has none."""
        for file in self.files:
            if file.path == path:
                return file
        raise ProtocolError(f"{self.model} {self.version}: the manifest lists no file {path!r}")

    def build_for(self, runtimes: tuple[str, ...]) -> Build | None:
        """The first build, in the manifest's order, that one of ``runtimes`` can run."""
        return next((build for build in self.builds if build.runtime in runtimes), None)

    def fallback(self, name: str | None) -> Fallback | None:
        """The fallback with this name, or the first one; None when none is declared.

        A name that this version doesn't declare is another version's: the first one answers.
        """
        named = (file for file in self.fallbacks if file.name == name)
        return next(named, self.fallbacks[0] if self.fallbacks else None)

    def files_for(self, build: Build) -> tuple[File, ...]:
        """The files a device running ``build`` needs: all but the other builds' models."""
        others = {other.file for other in self.builds} - {build.file}
        return tuple(file for file in self.files if file.path not in others)


HEAD_BYTES = 11
"""Of an encoded manifest: its format, which comes first."""


def format_in(head: bytes) -> int:
    """The format that the first ``HEAD_BYTES`` of an encoded manifest name."""
    return 2 if head[:HEAD_BYTES] == b'{"format":2' else 1


def target_path(model: str, version: str) -> str:
    """The TUF target path of a version's manifest."""
    return f"{check_name(model, 'model')}/{check_version(version)}/manifest.json"


def role_name(model: str) -> str:
    """The delegated TUF role that signs a model's manifests."""
    return f"model-{check_name(model, 'model')}"


def encode(manifest: Manifest) -> bytes:
    """Deterministic JSON; raises ProtocolError for whatever ``decode`` would refuse on a device."""
    check(manifest)
    data = msgspec.json.encode(manifest, order="deterministic")
    if len(data) > limits.MANIFEST_BYTES_MAX:
        raise LimitError(
            f"{manifest.model} {manifest.version}: the manifest is {len(data)} bytes, "
            f"the limit is {limits.MANIFEST_BYTES_MAX}"
        )
    decode(data)  # values built in Python may break bounds that only parsing checks, such as NaN
    return data


def decode(data: bytes) -> Manifest:
    """Parse and check a manifest; raises ProtocolError that names the field at fault."""
    if len(data) > limits.MANIFEST_BYTES_MAX:
        raise LimitError(f"a manifest of {len(data)} bytes is over the limit")
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format not in FORMATS:
            known = " and ".join(map(str, FORMATS))
            raise ProtocolError(f"manifest format {head.format} is not known here (know {known})")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a valid manifest: {error}") from None
    check(manifest)
    return manifest


class _Head(Struct):
    format: Integer


def check(manifest: Manifest) -> None:
    """Check what types can't say: names, references between fields, sizes in total."""
    check_name(manifest.model, "model")
    check_version(manifest.version)
    where = f"{manifest.model} {manifest.version}"
    _check_format(manifest, where)
    paths = [file.path for file in manifest.files]
    _unique(paths, f"{where}: file")
    _unique([build.runtime for build in manifest.builds], f"{where}: build for runtime")
    _unique([tensor.name for tensor in manifest.inputs], f"{where}: input")
    _unique([tensor.name for tensor in manifest.outputs], f"{where}: output")
    _unique([fallback.name for fallback in manifest.fallbacks], f"{where}: fallback")
    if "manifest.json" in paths:
        raise ProtocolError(f"{where}: 'manifest.json' is the manifest's own name")
    for path in [build.file for build in manifest.builds] + [manifest.golden.file]:
        manifest.file(path)
    if manifest.baseline is not None:
        manifest.file(manifest.baseline)
    for file in manifest.files:
        check_sha256(file.sha256)
        _check_index(file, where)
    total = sum(file.size_bytes for file in manifest.files)
    if total > limits.BUNDLE_BYTES_MAX:
        raise LimitError(f"{where}: {total} bytes in all, the limit is {limits.BUNDLE_BYTES_MAX}")
    for build in manifest.builds:
        _check_providers(build, where)
    _check_tensors(manifest, where)
    _check_features(manifest, where)
    _check_outputs(manifest, where)


def least_format(manifest: Manifest) -> int:
    """The oldest format that can say what a manifest says; older agents read no newer one."""
    tensors = (*manifest.inputs, *manifest.outputs)
    many = max(len(manifest.inputs), len(manifest.outputs)) > limits.TENSORS_MAX_FORMAT_ONE
    later: list[object] = [
        manifest.state, manifest.features, manifest.image, manifest.window, manifest.quality,
    ]  # fmt: skip
    for build in manifest.builds:
        later += [build.providers, build.threads]
    newer = many or any(value is not UNSET for value in later) or "+" in manifest.version
    return 2 if newer else max(map(format_of, tensors), default=1)


def _check_format(manifest: Manifest, where: str) -> None:
    least = least_format(manifest)
    if manifest.format not in FORMATS or manifest.format < least:
        raise ProtocolError(f"{where}: format {manifest.format} can't say this, format {least} can")


def _check_tensors(manifest: Manifest, where: str) -> None:
    if manifest.format == 1:
        return  # Those that were accepted once stay so.
    for kind, tensors in (("input", manifest.inputs), ("output", manifest.outputs)):
        for tensor in tensors:
            check_tensor(tensor, f"{where}: {kind} {tensor.name!r}")
    if all(tensor.batch is None for tensor in manifest.inputs):
        for tensor in manifest.outputs:
            if tensor.batch is not None:
                raise ProtocolError(
                    f"{where}: output {tensor.name!r} has a batch axis and no input has one: "
                    "say batch_axis null"
                )
    if manifest.state is not UNSET:
        check_state(manifest.state, manifest.inputs, manifest.outputs, where)


def _check_providers(build: Build, where: str) -> None:
    names = [] if build.providers is UNSET else [provider.name for provider in build.providers]
    known = PROVIDERS.get(build.runtime, ())
    for name in names:
        if name not in known:
            raise ProtocolError(
                f"{where}: the {build.runtime} build asks for the provider {name}, which that "
                f"runtime never has: choose of {', '.join(known) or 'none'}"
            )
    _unique(list(names), f"{where}: the {build.runtime} build's provider")


def _check_features(manifest: Manifest, where: str) -> None:
    state = () if manifest.state is UNSET else tuple(manifest.state.tensors)
    if manifest.image is not UNSET:
        if manifest.features is not UNSET or state:
            other = "'features'" if manifest.features is not UNSET else "an explicit state"
            raise ProtocolError(f"{where}: an 'image' is the whole input, and {other} is beside it")
        imaging.check(manifest.image, manifest.window, manifest.quality, manifest.inputs, where)
        return
    if manifest.features is UNSET:
        if manifest.window is not UNSET or manifest.quality is not UNSET:
            raise ProtocolError(
                f"{where}: 'window' and 'quality' are of 'features' or 'image', which it lacks"
            )
        return
    feeding.check(
        manifest.features, manifest.window, manifest.quality, manifest.inputs, state, where
    )


def lacking(runtime: str, asked: Sequence[str], has: Sequence[str]) -> str:
    """That a device has no provider that a build asks for."""
    return (
        f"the {runtime} build asks for {' or '.join(asked)}, and the runtime here has "
        f"{', '.join(has)}: install one with it, or pack the model with CPU as the last provider"
    )


def _check_index(file: File, where: str) -> None:
    if bool(file.index) != (file.size_bytes > limits.CHUNK_BYTES):
        raise ProtocolError(
            f"{where}: {file.path} of {file.size_bytes} bytes "
            f"{'needs' if not file.index else 'must not have'} a chunk index"
        )


def _check_outputs(manifest: Manifest, where: str) -> None:
    outputs = {tensor.name for tensor in manifest.outputs}
    if manifest.classifier is not None and manifest.classifier.output not in outputs:
        raise ProtocolError(
            f"{where}: classifier output {manifest.classifier.output!r} is not an output"
        )
    for fallback in manifest.fallbacks:
        if fallback.kind == "constant" and set(fallback.outputs) != outputs:
            raise ProtocolError(
                f"{where}: fallback {fallback.name!r} must give a constant for each output"
            )


def _unique(values: list[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ProtocolError(f"{what} {value!r} is listed twice")
        seen.add(value)
