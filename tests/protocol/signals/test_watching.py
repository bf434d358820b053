"""A baseline that a device could not use is refused, rather than switching drift detection off."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.signals import baseline, binning, features, watching
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Build, File, Golden, Manifest
from muster_protocol.wire.tensors import Tensor

FILES = tuple(File(name, 1, "0" * 64) for name in ("m.onnx", "golden.npz"))
RANDOM = np.random.default_rng(1)


def model(**tensors: tuple[int, ...]) -> Manifest:
    return Manifest(
        model="m", version="1", created=0,
        inputs=tuple(Tensor(name, "FP32", shape) for name, shape in tensors.items()),
        outputs=(Tensor("y", "FP32", (-1, 1)), Tensor("boxes", "FP32", (-1, -1, 4))),
        builds=(Build("onnx", "m.onnx", 1 << 28),), files=FILES, golden=Golden("golden.npz"),
    )  # fmt: skip


def fitted(tensor: str, width: int, *watched: features.Feature) -> baseline.Baseline:
    rows = RANDOM.normal(size=(200, width)).astype(np.float32)
    return baseline.fit({tensor: rows}, watched or features.elements(tensor, width))


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (fitted("input", 4), "watches a tensor 'input', which the model doesn't have"),
        (fitted("x", 5), "element 4 of 'x', which has 4 per row"),
        (fitted("boxes", 4), "varying size"),
        (fitted("y", 2, *features.classifier("y")), "a single number"),
        (baseline.fit({}, ()), "watches nothing"),
    ],
)
def test_a_baseline_of_another_model_is_refused_by_name(trained, words):
    with pytest.raises(ProtocolError, match=f"^m 1: .*{words}"):
        watching.check(model(x=(-1, 4)), trained)


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(["x", "other"]))
def test_what_passes_is_counted_on_a_device_and_what_is_refused_is_not(width, declared, name):
    """The device's own way of finding out: counting no rows of what it records."""
    trained = fitted(name, width)
    manifest = model(x=(-1, declared))
    try:
        watching.check(manifest, trained)
        passes = True
    except ProtocolError:
        passes = False
    try:
        binning.count(trained, watching.watchable(manifest))
        counted = True
    except ProtocolError:
        counted = False
    assert passes == counted == (name == "x" and width <= declared)
