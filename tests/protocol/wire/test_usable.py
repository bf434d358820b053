"""What a device could not use is refused before anything is signed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.wire import usable
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import (
    Agreement,
    Build,
    Classifier,
    Fallback,
    File,
    Golden,
    Manifest,
)
from muster_protocol.wire.tensors import Tensor

FILES = tuple(File(name, 1, "0" * 64) for name in ("m.onnx", "golden.npz"))


def of(*outputs: Tensor, **fields) -> Manifest:
    return Manifest(
        model="m", version="1", created=0, inputs=(Tensor("x", "FP32", (-1, 4)),),
        outputs=outputs, builds=(Build("onnx", "m.onnx", 1 << 28),), files=FILES,
        golden=Golden("golden.npz"), **fields,
    )  # fmt: skip


SCORES = Tensor("scores", "FP32", (-1, 3))
TEXT = Tensor("label", "BYTES", (-1,))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (of(SCORES, classifier=Classifier("scores", ("a", "b"))), "names 2 classes"),
        (of(TEXT, classifier=Classifier("label", ("a", "b"))), "one number for each class"),
        (
            of(Tensor("s", "FP32", (-1, -1)), classifier=Classifier("s", ("a", "b"))),
            "one number for each class",
        ),
        (of(TEXT, agreement=Agreement()), "no output has a fixed size"),
        (
            of(TEXT, fallbacks=(Fallback("f", "constant", {"label": [1.0]}),)),
            "text has no constant",
        ),
        (of(SCORES, fallbacks=(Fallback("f", "constant", {"scores": [1.0]}),)), "1 numbers"),
        (
            of(Tensor("n", "UINT8", (-1,)), fallbacks=(Fallback("f", "constant", {"n": [256.0]}),)),
            "256 is no UINT8",
        ),
        (
            of(Tensor("n", "INT8", (-1,)), fallbacks=(Fallback("f", "constant", {"n": [0.5]}),)),
            "0.5 is no INT8",
        ),
    ],
)
def test_what_a_device_could_not_use_is_refused_by_name(manifest, words):
    with pytest.raises(ProtocolError, match=f"^m 1: .*{words}"):
        usable.check(manifest)


@given(
    st.integers(2, 50),
    st.lists(st.integers(1, 5), max_size=3),
    st.sampled_from(["FP32", "FP64", "UINT8", "INT64"]),
)
def test_a_classifier_fits_exactly_when_it_has_as_many_classes_as_scores(count, shape, datatype):
    output = Tensor("scores", datatype, (-1, *shape))
    manifest = of(output, classifier=Classifier("scores", tuple(map(str, range(count)))))
    if usable.elements(output) == count:
        usable.check(manifest)
    else:
        with pytest.raises(ProtocolError, match="classes"):
            usable.check(manifest)


@given(st.lists(st.integers(-1, 3), max_size=3).filter(lambda shape: 0 not in shape))
def test_a_constant_that_is_as_long_as_one_answer_passes(shape):
    output = Tensor("y", "FP32", (-1, *shape))
    length = usable.elements(
        msgspec.structs.replace(output, shape=(-1, *(abs(size) for size in shape)))
    )
    usable.check(of(output, fallbacks=(Fallback("f", "constant", {"y": [0.5] * length}),)))
