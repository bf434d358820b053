"""Features, window and quality of a manifest: what is refused, and what older manifests keep."""

import pytest
from msgspec import structs

from muster_protocol.wire import manifest
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from muster_protocol.wire.tensors import ModelState, Tensor
from wire_samples import MANIFEST

FLOW, TEMP = InputFeature("flow", unit="m3/h"), InputFeature("temp", unit="°C", least=0.0, most=1.0)
FED = structs.replace(
    MANIFEST,
    format=2,
    inputs=(Tensor("x", "FP32", (-1, 2)),),
    features=(FLOW, TEMP),
    window=InputWindow(every_seconds=0.5, seconds=60.0),
    quality=InputQuality(bad="hold", hold_seconds=5.0),
)


def test_features_go_to_the_wire_and_back_and_need_format_2():
    data = manifest.encode(FED)
    assert manifest.decode(data) == FED
    assert manifest.least_format(FED) == 2
    with pytest.raises(ProtocolError, match="format 1 can't say this"):
        manifest.encode(structs.replace(FED, format=1))


def test_a_manifest_without_them_says_nothing_of_them():
    data = manifest.encode(MANIFEST)
    assert not any(word in data for word in (b'"features"', b'"window"', b'"quality"'))


EACH = tuple(structs.replace(each, statistic="each") for each in (FLOW, TEMP))


def test_each_sample_of_a_window_is_a_number_of_its_own():
    wide = structs.replace(
        FED,
        features=EACH,
        window=InputWindow(samples=30),
        inputs=(Tensor("x", "FP32", (-1, 30, 2)),),
    )
    assert manifest.decode(manifest.encode(wide)) == wide


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"features": (FLOW,)}, "1 features are 1 numbers, an element of input 'x' has the shape"),
        ({"features": (FLOW, FLOW)}, "listed twice"),
        ({"features": (FLOW, structs.replace(TEMP, least=2.0))}, "least 2 is above most 1"),
        (
            {"features": (FLOW, structs.replace(TEMP, signal="flow"))},
            "with another unit or range",
        ),
        ({"features": EACH}, "needs a window of 'samples'"),
        ({"features": (FLOW, EACH[1]), "window": InputWindow(samples=1)}, "for all features"),
        ({"window": InputWindow(samples=2, seconds=1.0)}, "not both"),
        ({"quality": InputQuality(bad="pass")}, "must say missing true"),
        ({"inputs": (Tensor("x", "INT32", (-1, 2)),)}, "FP16, FP32 or FP64"),
        ({"inputs": (Tensor("x", "FP32", (-1, -1)),)}, "has the shape"),
        (
            {"inputs": (Tensor("x", "FP32", (-1, 2)), Tensor("y", "FP32", (-1, 2)))},
            "one input of a model",
        ),
        ({"features": manifest.UNSET}, "are of 'features' or 'image', which it lacks"),
        (
            {
                "inputs": (Tensor("x", "FP32", (-1, 10)),),
                "state": ModelState("explicit", {"x": "scores"}),
            },
            "without explicit state",
        ),
    ],
)
def test_what_a_device_could_not_feed_is_refused(changed, words):
    with pytest.raises(ProtocolError, match=words):
        manifest.check(structs.replace(FED, **changed))
