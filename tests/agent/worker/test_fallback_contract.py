"""What a fallback answers: what the manifest says, as long as it says, marked as what it is."""

import numpy as np
import pytest

from muster_agent.worker.fallback import FallbackContract
from muster_agent.worker.rows import Quality
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.manifest import Build, Fallback, File, Golden, Manifest, Tensor

MANIFEST = Manifest(
    model="pump", version="1", created=0,
    inputs=(Tensor("x", "FP32", (-1, 4)),), outputs=(Tensor("y", "FP32", (-1, 2)),),
    builds=(Build("onnx", "m.onnx", 1 << 20),),
    files=(File("m.onnx", 1, "00" * 32), File("golden.npz", 1, "11" * 32)),
    golden=Golden("golden.npz"),
    fallbacks=(
        Fallback("safe", "constant", {"y": [0.25, 0.75]}),
        Fallback("last", "last_good", ttl_seconds=30.0),
        Fallback("none", "no_decision"),
    ),
)  # fmt: skip


def test_a_constant_is_the_signed_one_for_each_row_and_marked():
    quality, outputs = FallbackContract(MANIFEST, "safe").answer(2, 0.0)
    assert quality is Quality.CONSTANT
    np.testing.assert_array_equal(outputs["y"], np.array([[0.25, 0.75]] * 2, np.float32))


def test_the_last_good_answer_is_repeated_until_it_is_too_old():
    contract = FallbackContract(MANIFEST, "last")
    contract.remember({"y": np.array([[1, 2], [3, 4]], np.float32)}, 100.0)
    quality, outputs = contract.answer(1, 130.0)
    assert quality is Quality.LAST_GOOD
    np.testing.assert_array_equal(outputs["y"], [[3, 4]])
    assert contract.answer(1, 130.1) == (Quality.NO_DECISION, {})


def test_an_answer_of_the_future_is_of_another_boot_and_not_repeated():
    contract = FallbackContract(MANIFEST, "last")
    contract.remember({"y": np.zeros((1, 2), np.float32)}, 100.0)
    assert contract.answer(1, 99.9) == (Quality.NO_DECISION, {})


def test_without_a_last_good_answer_there_is_no_decision():
    assert FallbackContract(MANIFEST, "last").answer(1, 0.0) == (Quality.NO_DECISION, {})
    assert FallbackContract(MANIFEST, "none").answer(1, 0.0) == (Quality.NO_DECISION, {})


def test_what_is_remembered_is_a_copy():
    contract = FallbackContract(MANIFEST, "last")
    buffer = np.ones((1, 2), np.float32)
    contract.remember({"y": buffer}, 0.0)
    buffer[:] = 7
    np.testing.assert_array_equal(contract.answer(1, 1.0)[1]["y"], [[1, 1]])


def test_a_fallback_that_the_manifest_does_not_declare_is_refused():
    with pytest.raises(ProtocolError, match="no fallback 'invented'"):
        FallbackContract(MANIFEST, "invented")
