"""A picture as a model's input: what its manifest may say, and what is refused by name."""

import msgspec
import pytest
from msgspec import structs

from muster_protocol.wire import manifest
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.feeding import InputFeature, InputQuality, InputWindow
from muster_protocol.wire.imaging import InputImage
from muster_protocol.wire.tensors import Tensor
from wire_samples import MANIFEST

SEEN = structs.replace(
    MANIFEST,
    format=2,
    inputs=(Tensor("x", "FP32", (-1, 32, 48, 3)),),
    image=InputImage(crop=(0.1, 0.1, 0.9, 0.9), fit="cover", scale=(255.0,)),
    window=InputWindow(every_seconds=0.5),
    quality=InputQuality(stale_seconds=5.0),
)


def test_it_goes_to_the_wire_and_back_and_needs_format_2():
    data = manifest.encode(SEEN)
    assert manifest.decode(data) == SEEN
    assert manifest.least_format(SEEN) == 2
    assert b'"image":{' not in manifest.encode(MANIFEST)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ({"colour": "yuv"}, "Invalid enum value 'yuv'"),
        ({"fit": "zoom"}, "Invalid enum value 'zoom'"),
        ({"resize": "lanczos"}, "Invalid enum value 'lanczos'"),
        ({"layout": "NHWC"}, "Invalid enum value 'NHWC'"),
        ({"rotate": 90}, "unknown field `rotate`"),
        ({"crop": [0.0, 0.0, 1.5, 1.0]}, "1"),
        ({"scale": [0.0]}, "> 0"),
        ({"padding": 300}, "255"),
    ],
)
def test_words_that_nobody_knows_are_refused(words, fault):
    stored = msgspec.json.decode(manifest.encode(SEEN))
    stored["image"].update(words)
    with pytest.raises(ProtocolError, match=fault):
        manifest.decode(msgspec.json.encode(stored, order="deterministic"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"image": InputImage(crop=(0.5, 0.0, 0.5, 1.0))}, "image.crop .* is empty"),
        ({"image": InputImage(offset=(1.0, 2.0))}, "image.offset has 2 numbers: give 1, or 3"),
        ({"image": InputImage(colour="grey")}, "with 1 channels"),
        ({"image": InputImage(layout="CHW")}, "channels, height, width"),
        ({"inputs": (Tensor("x", "FP32", (-1, -1, 48, 3)),)}, "fixed sizes"),
        ({"inputs": (Tensor("x", "FP32", (-1, 32, 5000, 3)),)}, "up to 4096"),
        ({"inputs": (Tensor("x", "FP32", (-1, 4608)),)}, "height, width, channels"),
        ({"inputs": (Tensor("x", "INT32", (-1, 32, 48, 3)),)}, "input 'x' is INT32"),
        ({"inputs": (*SEEN.inputs, Tensor("y", "FP32", (-1, 1)))}, "the only input"),
        ({"window": InputWindow(samples=2)}, "judged by itself"),
        ({"quality": InputQuality(bad="hold", hold_seconds=1.0)}, "no picture stands in"),
        ({"features": (InputFeature("flow"),)}, "the whole input, and 'features' is beside it"),
    ],
)
def test_what_a_device_could_not_feed_is_refused(changed, words):
    with pytest.raises(ProtocolError, match=words):
        manifest.encode(structs.replace(SEEN, **changed))
