"""Manifests: what is encoded decodes to itself, and each bad one is refused by its field."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from muster_protocol.wire import limits, manifest
from muster_protocol.wire.errors import LimitError, ProtocolError
from muster_protocol.wire.manifest import Fallback, File, Lineage, Tensor
from wire_samples import MANIFEST, SHA_A, manifests


@given(manifests())
def test_a_manifest_survives_the_wire_and_its_bytes_never_vary(value):
    data = manifest.encode(value)
    assert manifest.decode(data) == value
    assert manifest.encode(manifest.decode(data)) == data


def changed(path: str, value: Any) -> bytes:
    """The sample manifest's JSON with one value replaced, by dotted path."""
    tree = json.loads(manifest.encode(MANIFEST))
    *parents, last = path.split(".")
    node = tree
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[int(last) if isinstance(node, list) else last] = value
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("inputs.0.datatype", "FP8", r"inputs\[0\]\.datatype"),
        ("inputs.0.shape", [1] * 9, "shape"),
        ("inputs.0.shape", [-2], "shape"),
        ("inputs", [], "inputs"),
        ("files.0.path", "../model.onnx", "path"),
        ("files.0.path", "/etc/passwd", "path"),
        ("files.0.path", "a/b", "path"),
        ("files.0.path", ".hidden", "path"),
        ("files.0.path", "model.onnx\n", "path"),
        ("files.0.path", "model\u0000.onnx", "path"),
        ("files.0.path", "manifest.json", "manifest.json"),
        ("files.0.sha256", "A1" * 32, "sha256"),
        ("files.0.sha256", SHA_A + "\n", "sha256"),
        ("files.0.index", [SHA_A + "\n"], "index"),
        ("files.0.index", [SHA_A] * 17, "index"),
        ("files.0.index", [], "model.onnx .* needs a chunk index"),
        ("files.1.index", [SHA_A], "model.tflite .* must not have a chunk index"),
        ("files.0.size_bytes", -1, "size_bytes"),
        ("files.0.size_bytes", limits.BUNDLE_BYTES_MAX + 1, "size_bytes"),
        ("files.0.mode", 0o755, "mode"),
        ("builds.0.runtime", "pickle", "runtime"),
        ("builds.0.memory_bytes", 1, "memory_bytes"),
        ("builds.0.file", "other.onnx", "other.onnx"),
        ("golden.file", "missing.npz", "missing.npz"),
        ("golden.rtol", 1.5, "rtol"),
        ("baseline", "missing.json", "missing.json"),
        ("classifier.output", "logits", "logits"),
        ("classifier.classes", ["one"], "classes"),
        ("fallbacks.2.outputs", {}, "unsure"),
        ("probation.error_rate_max", 2, "error_rate_max"),
        ("start.warmup_runs", -1, "warmup_runs"),
        ("lineage.metrics", {"acc": "good"}, "metrics"),
        ("model", "Digits", "model 'Digits'"),
        ("version", "..", "version"),
        ("format", 3, "format 3"),
        ("note", "unknown", "note"),
    ],
)
def test_a_bad_manifest_is_refused_by_the_field_at_fault(path, value, named):
    with pytest.raises(ProtocolError, match=named):
        manifest.decode(changed(path, value))


@pytest.mark.parametrize("field", ["files", "builds", "inputs", "outputs", "fallbacks"])
def test_whatever_is_listed_twice_is_refused(field):
    listed = getattr(MANIFEST, field)
    twice = msgspec.structs.replace(MANIFEST, **{field: (*listed, listed[0])})
    with pytest.raises(ProtocolError, match="listed twice"):
        manifest.decode(msgspec.json.encode(twice))


def test_files_that_fit_one_by_one_but_not_together_are_refused():
    big = File("big", limits.BUNDLE_BYTES_MAX, SHA_A, (SHA_A,))
    with pytest.raises(LimitError, match="in all"):
        manifest.encode(msgspec.structs.replace(MANIFEST, files=(*MANIFEST.files, big)))


def test_a_manifest_over_the_limit_is_refused_on_both_sides():
    long = msgspec.structs.replace(MANIFEST, lineage=Lineage(notes="x" * limits.MANIFEST_BYTES_MAX))
    with pytest.raises(LimitError, match=str(limits.MANIFEST_BYTES_MAX)):
        manifest.encode(long)
    with pytest.raises(LimitError, match="over the limit"):
        manifest.decode(msgspec.json.encode(long))


@pytest.mark.parametrize(
    "bad",
    [
        {"lineage": Lineage(metrics={"acc": float("nan")})},
        {"inputs": (Tensor("image", "FP8", (1,)),)},
        {"inputs": (Tensor("", "FP32", (1,)),)},
        {"fallbacks": (Fallback("x", "constant", {"scores": [float("inf")]}),)},
    ],
)
def test_a_packer_cannot_encode_what_a_device_would_refuse(bad):
    with pytest.raises(ProtocolError):
        manifest.encode(msgspec.structs.replace(MANIFEST, **bad))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"format":1}'])
def test_bytes_that_are_no_manifest_are_refused_in_one_line(data):
    with pytest.raises(ProtocolError, match="not a valid manifest") as caught:
        manifest.decode(data)
    assert "\n" not in str(caught.value)


def test_a_device_takes_the_first_build_it_can_run_and_only_its_files():
    build = MANIFEST.build_for(("tflite",))
    assert build is not None
    assert build.runtime == "tflite"
    assert [entry.path for entry in MANIFEST.files_for(build)] == [
        "model.tflite", "golden.npz", "baseline.json",
    ]  # fmt: skip
    assert MANIFEST.build_for(("tflite", "onnx")) == MANIFEST.builds[0]
    assert MANIFEST.build_for(()) is None


def test_the_names_of_target_and_role_follow_the_model():
    assert manifest.target_path("digits", "1.0.0") == "digits/1.0.0/manifest.json"
    assert manifest.role_name("digits") == "model-digits"
    with pytest.raises(ProtocolError, match="model"):
        manifest.target_path("../digits", "1.0.0")
