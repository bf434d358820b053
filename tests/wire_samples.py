"""Sample wire values and hypothesis strategies for them, shared by tests of either side."""

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET

from muster_protocol.wire import limits, messages
from muster_protocol.wire.contact import BrokerAddress, Contact
from muster_protocol.wire.directive import Directive, Goal, Sampling, Slot, Source
from muster_protocol.wire.manifest import (
    Build,
    Classifier,
    Fallback,
    File,
    Golden,
    Lineage,
    Manifest,
    Probation,
    Start,
)
from muster_protocol.wire.tensors import ModelState, Quantisation, Tensor

SHA_A, SHA_B, SHA_C, SHA_D = ("a1" * 32, "b2" * 32, "c3" * 32, "d4" * 32)
STAMP = messages.Stamp(bytes(range(16)), 1234.5, 1_800_000_000.25, "synchronised")

MANIFEST = Manifest(
    model="digits",
    version="1.0.0",
    created=1_800_000_000,
    inputs=(Tensor("image", "FP32", (-1, 64)),),
    outputs=(Tensor("scores", "FP32", (-1, 10)),),
    builds=(
        Build("onnx", "model.onnx", 64 * limits.MIB, opset=17),
        Build("tflite", "model.tflite", 32 * limits.MIB),
    ),
    files=(
        File("model.onnx", 300_000, SHA_A, (SHA_D,)),
        File("model.tflite", 20_000, SHA_B),
        File("golden.npz", 4_000, SHA_C),
        File("baseline.json", 2_000, SHA_D),
    ),
    golden=Golden("golden.npz", rtol=0.01, atol=0.001),
    baseline="baseline.json",
    classifier=Classifier("scores", tuple("0123456789")),
    fallbacks=(
        Fallback("last", "last_good", ttl_seconds=30.0),
        Fallback("none", "no_decision"),
        Fallback("unsure", "constant", {"scores": [0.1] * 10}),
    ),
    start=Start(wall_seconds=20.0, cpu_seconds=10.0, warmup_runs=5, latency_ms_max=12.5),
    probation=Probation(seconds=5.0, inferences=20, error_rate_max=0.1, latency_ratio_max=2.0),
    lineage=Lineage("git.example/digits", "0f" * 20, "digits-2026-11", "2026-11-01", {"acc": 0.97}),
)

MANIFEST_2 = Manifest(
    format=2,
    model="tracker",
    version="1.2.0+17",
    created=1_800_000_000,
    inputs=(
        Tensor(
            "image",
            "UINT8",
            (3, -1, -1, -1),
            batch_axis=1,
            shape_min=(3, 1, 32, 32),
            shape_max=(3, 8, 640, 640),
            quantisation=Quantisation(0.0039, 128),
        ),
        Tensor("depth", "FP32", (-1, 4), missing=True),
        Tensor("threshold", "FP32", ()),
        Tensor("memory", "BF16", (2, 16), batch_axis=None),
    ),
    outputs=(
        Tensor("boxes", "FP32", (-1, 6), batch_axis=None),
        Tensor("remembered", "BF16", (2, 16), batch_axis=None),
    ),
    builds=(Build("onnx", "model.onnx", 64 * limits.MIB),),
    files=(File("model.onnx", 20_000, SHA_A), File("golden.npz", 4_000, SHA_C)),
    golden=Golden("golden.npz"),
    state=ModelState("explicit", {"memory": "remembered"}),
)

DIRECTIVE = Directive(
    device="press-7",
    epoch=2,
    generation=41,
    issued=1_800_000_000,
    expires=1_800_086_400,
    slots={
        "vision": Slot(
            champion=Goal("digits", "1.0.0", SHA_A, 2_048),
            challenger=Goal("digits", "1.1.0", SHA_B, 2_100),
            fallback="last",
            swap="grant",
        )
    },
    window_seconds=60.0,
    sampling=Sampling(keep_crash_input=True),
    sources=(Source("https://hub.example:8443/api/v1/chunks", "token"),),
)
CONTACT = Contact(
    hubs=("https://next.example:8443", "https://hub.example:8443"),
    brokers=(BrokerAddress("next.example", 8883), BrokerAddress("::1", 8883)),
    authorities=(b"der of the next", b"der of the last"),
)
DIRECTIVE_CONTACT = msgspec.structs.replace(DIRECTIVE, contact=CONTACT)

BATCH = messages.Batch(
    version=1,
    epoch=bytes(range(8)),
    sent=STAMP,
    rows=[messages.Row(7, b"\x01\x02"), messages.Row(8, b"")],
)
ACK = messages.Ack(version=1, stream="summary", epoch=bytes(range(8)), sequence=8)
EVENT = messages.Event(
    kind="refused",
    at=STAMP,
    slot="vision",
    model="digits",
    version="1.1.0",
    manifest=SHA_B,
    generation=41,
    state="failed",
    refusal="golden_mismatch",
    detail="case 3: scores[4] is 0.5, expected 0.9",
    values={"case": 3.0},
)
REPORT = messages.Report(
    at=STAMP,
    epoch=2,
    generation=41,
    slots={
        "vision": messages.SlotReport(
            health="ok",
            running=messages.Running(
                model="digits", version="1.0.0", manifest=SHA_A, runtime="onnx", since=STAMP,
                inferences=1000, errors=1,
            ),
            update=messages.Update(state="failed", model="digits", version="1.1.0", generation=41),
        )
    },
    facts=messages.Facts(agent_version="0.1.0", machine="aarch64", runtimes={"onnx": "1.32.0"}),
    trust=messages.TrustReport(
        versions={"timestamp": 9}, expires={"timestamp": 1_800_086_400}
    ),
    refusal="stale_generation",
    certificate_expires=1_815_000_000,
    outbox_rows=2,
    outbox_bytes=512,
)  # fmt: skip
PROVED = messages.Report(
    at=messages.Stamp(bytes(range(16)), 2345.5, 1_800_001_111.25, "floor"),
    epoch=3,
    generation=77,
    slots={
        "vision": messages.SlotReport(
            health="ok",
            running=messages.Running(
                model="digits", version="1.0.0", manifest=SHA_A, runtime="onnx", since=STAMP,
                inferences=1000, errors=1,
            ),
            update=messages.Update(state="committed"),
        ),
        "empty": messages.SlotReport(health="ok", update=messages.Update(state="idle")),
        "sound": messages.SlotReport(
            health="ok",
            running=messages.Running(
                model="hum", version="2", manifest=SHA_B, runtime="tflite", since=STAMP,
                inferences=7, errors=2,
            ),
            update=messages.Update(state="committed"),
        ),
    },
    facts=REPORT.facts,
    trust=REPORT.trust,
)  # fmt: skip
"""Each value that a proof signs is another, so that none can be left out or take another's place.
"""
PRESENCE = messages.Presence(online=True)
WANT = messages.Want([SHA_A, SHA_B])
SHOWN = messages.Shown(b'{"signed":{"version":9}}', b'{"signed":{"version":7}}')
GRANT_REQUEST = messages.GrantRequest(
    nonce=bytes(range(12)), slot="vision", manifest=SHA_A, generation=42
)
GRANT = messages.Grant(nonce=bytes(range(12)), slot="vision", given=True, valid_seconds=60.0)

MESSAGES = {
    "batch": BATCH,
    "ack": ACK,
    "event": EVENT,
    "report": REPORT,
    "presence": PRESENCE,
    "want": WANT,
    "shown": SHOWN,
    "grant_request": GRANT_REQUEST,
    "grant": GRANT,
}

device_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
paths = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True).filter(
    lambda path: path != "manifest.json"
)
finite = st.floats(-limits.NUMBER_MAX, limits.NUMBER_MAX)
tolerances = st.floats(0, limits.GOLDEN_RTOL_MAX)
moments = st.floats(-limits.SECONDS_MAX, limits.SECONDS_MAX)
text = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=40)


def tensors(name: str) -> st.SearchStrategy[Tensor]:
    shapes = st.lists(st.integers(-1, 4096), max_size=limits.RANK_MAX).map(tuple)
    return st.builds(Tensor, st.just(name), st.sampled_from(["FP32", "UINT8", "BYTES"]), shapes)


@st.composite
def any_tensors(draw: st.DrawFn, name: str) -> Tensor:
    """A tensor of format 2: any batch axis, any bounds that go with its shape."""
    shape = tuple(draw(st.lists(st.integers(-1, 64).filter(bool), max_size=limits.RANK_MAX)))
    least = tuple(draw(st.integers(1, 9)) if size == -1 else size for size in shape)
    most = tuple(size + draw(st.integers(0, 9)) if was == -1 else size
                 for was, size in zip(shape, least, strict=True))  # fmt: skip
    datatype = draw(st.sampled_from(["FP32", "BF16", "INT8"]))
    return Tensor(
        name,
        datatype,
        shape,
        batch_axis=draw(st.sampled_from([None, UNSET, *range(len(shape))])),
        missing=draw(st.sampled_from([UNSET, False, datatype != "INT8"])),
        shape_min=draw(st.sampled_from([UNSET, least])),
        shape_max=draw(st.sampled_from([UNSET, most])),
        quantisation=Quantisation(0.5, -3) if datatype == "INT8" else UNSET,
    )


@st.composite
def files(draw: st.DrawFn, path: str) -> File:
    """A file whose index is there exactly when it needs one."""
    size_bytes = draw(st.integers(0, 64 * limits.MIB))
    indexed = size_bytes > limits.CHUNK_BYTES
    index = draw(st.lists(digests, min_size=indexed, max_size=4 * indexed).map(tuple))
    return File(path, size_bytes, draw(digests), index)


@st.composite
def fallbacks(draw: st.DrawFn, name: str, outputs: list[str]) -> Fallback:
    kind = draw(st.sampled_from(["constant", "last_good", "no_decision"]))
    if kind == "constant":
        rows = {output: draw(st.lists(finite, max_size=3)) for output in outputs}
        return Fallback(name, kind, rows)
    return Fallback(name, kind, ttl_seconds=draw(st.floats(0, 31_536_000)))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that its own rules allow."""
    some_paths = draw(st.lists(paths, min_size=4, max_size=8, unique=True))
    tensor_names = draw(st.lists(text.filter(bool), min_size=2, max_size=4, unique=True))
    outputs = tensor_names[1:]
    fallback_names = draw(st.lists(text.filter(bool), max_size=3, unique=True))
    runtimes = draw(st.lists(st.sampled_from(["onnx", "tflite"]), min_size=1, unique=True))
    memory = st.integers(limits.MIB, 64 * 1024 * limits.MIB)
    return Manifest(
        model=draw(names),
        version=draw(names),
        created=draw(st.integers(0, 2**53)),
        inputs=(draw(tensors(tensor_names[0])),),
        outputs=tuple(draw(tensors(name)) for name in outputs),
        builds=tuple(
            Build(runtime, path, draw(memory))
            for runtime, path in zip(runtimes, some_paths, strict=False)
        ),
        files=tuple(draw(files(path)) for path in some_paths),
        golden=Golden(some_paths[2], draw(tolerances), draw(tolerances)),
        baseline=draw(st.sampled_from([None, some_paths[3]])),
        classifier=draw(st.sampled_from([None, Classifier(outputs[0], ("low", "high"))])),
        fallbacks=tuple(draw(fallbacks(name, outputs)) for name in fallback_names),
        lineage=Lineage(draw(text), metrics=draw(st.dictionaries(text, finite, max_size=3))),
    )


@st.composite
def manifests_2(draw: st.DrawFn) -> Manifest:
    """Any manifest of format 2 that its own rules allow."""
    ins = tuple(draw(any_tensors(name)) for name in ("a", "b"))
    outs = tuple(draw(any_tensors(name)) for name in ("y", "z"))
    if all(tensor.batch is None for tensor in ins):
        outs = tuple(msgspec.structs.replace(tensor, batch_axis=None) for tensor in outs)
    paired = ins[0].datatype == outs[0].datatype
    states = [UNSET, ModelState(), ModelState("internal", sessions="single")]
    states += [ModelState("explicit", {"a": "y"})] if paired else []
    return msgspec.structs.replace(
        MANIFEST_2,
        version=draw(st.sampled_from(["1", "1.2.0+17", "2.0.0-rc.1+a-b.c"])),
        inputs=ins,
        outputs=outs,
        state=draw(st.sampled_from(states)),
    )


def goals() -> st.SearchStrategy[Goal]:
    return st.builds(Goal, names, names, digests, st.integers(2, limits.MANIFEST_BYTES_MAX))


serials = st.integers(1, 2**53 - 1)


def directives() -> st.SearchStrategy[Directive]:
    slot = st.builds(
        Slot,
        champion=goals(),
        challenger=st.none() | goals(),
        fallback=st.none() | text,
        swap=st.sampled_from(["free", "grant"]),
    )
    return st.builds(
        Directive,
        device=device_ids,
        epoch=serials,
        generation=serials,
        issued=st.integers(0, 2**40),
        expires=st.integers(0, 2**40),
        slots=st.dictionaries(names, slot, max_size=4),
        window_seconds=st.floats(limits.WINDOW_SECONDS_MIN, limits.WINDOW_SECONDS_MAX),
        sampling=st.builds(Sampling, st.booleans()),
    )


stamps = st.builds(
    messages.Stamp,
    st.binary(min_size=16, max_size=16),
    moments,
    moments,
    st.sampled_from(["unknown", "floor", "synchronised"]),
)


def any_message() -> st.SearchStrategy[messages.Batch | messages.Ack | messages.Event]:
    """Batches, acks and events with arbitrary contents that fit their limits."""
    epochs = st.binary(min_size=8, max_size=16)
    rows = st.builds(messages.Row, serials, st.binary(max_size=200))
    return st.one_of(
        st.builds(messages.Batch, st.just(1), epochs, stamps, st.lists(rows, min_size=1)),
        st.builds(messages.Ack, st.just(1), st.sampled_from(["event", "summary"]), epochs, serials),
        st.builds(
            messages.Event,
            kind=st.sampled_from(["update", "refused", "drift"]),
            at=stamps,
            slot=text,
            generation=st.integers(0, 2**53),
            refusal=st.none() | text,
            detail=text,
            values=st.dictionaries(text, finite, max_size=3),
        ),
    )
