"""Manifest format 2: any shape can be said, nothing that contradicts itself, 1 stays as it was."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from msgspec import UNSET

from muster_protocol.wire import limits, manifest
from muster_protocol.wire.errors import ProtocolError
from muster_protocol.wire.tensors import ModelState, Quantisation, Tensor
from wire_samples import MANIFEST, MANIFEST_2, manifests_2

PAGE = Path(__file__).resolve().parents[3] / "docs" / "manifest.md"


@given(manifests_2())
def test_a_manifest_of_format_2_survives_the_wire_and_its_bytes_never_vary(value):
    data = manifest.encode(value)
    assert manifest.decode(data) == value
    assert manifest.encode(manifest.decode(data)) == data


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": (Tensor("image", "FP32", (64, -1), batch_axis=1),)},
        {"inputs": (Tensor("image", "FP32", (-1, 64), missing=True),)},
        {"inputs": (Tensor("image", "FP32", (-1, 64), shape_max=(8, 64)),)},
        {"inputs": (Tensor("image", "INT8", (-1, 64), quantisation=Quantisation(0.5)),)},
        {"inputs": (Tensor("image", "BF16", (-1, 64)),)},
        {"inputs": tuple(Tensor(f"x{n}", "FP32", (-1, 1)) for n in range(65))},
        {"state": ModelState()},
        {"version": "1.2.0+17"},
    ],
)
def test_what_format_1_can_not_say_is_refused_in_it_and_needs_format_2(changes):
    value = msgspec.structs.replace(MANIFEST, **changes)
    assert manifest.least_format(value) == 2
    with pytest.raises(ProtocolError, match=r"format 1 can't say this, format 2 can"):
        manifest.encode(value)
    with pytest.raises(ProtocolError, match="format 2 can"):
        manifest.decode(msgspec.json.encode(value))
    newer = msgspec.structs.replace(value, format=2)
    assert manifest.decode(manifest.encode(newer)) == newer


def test_a_manifest_that_format_1_can_say_needs_no_newer_agent():
    assert manifest.least_format(MANIFEST) == 1
    assert manifest.least_format(MANIFEST_2) == 2


def replaced(**changes):
    return msgspec.structs.replace(MANIFEST_2, **changes)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (Tensor("x", "FP32", (-1, 4), batch_axis=2), "batch_axis 2 is no dimension"),
        (Tensor("x", "INT64", (-1, 4), missing=True), "a INT64 has no value for what is missing"),
        (Tensor("x", "FP32", (-1,), quantisation=Quantisation(0.1)), "FP32 is not quantised"),
        (Tensor("x", "FP32", (-1, 4), shape_max=(8,)), "shape_max .* is no instance"),
        (Tensor("x", "FP32", (-1, 4), shape_min=(1, 5)), "shape_min .* is no instance"),
        (Tensor("x", "FP32", (-1, -1), shape_min=(2, 9), shape_max=(2, 8)), "below the smallest"),
        (Tensor("x", "FP32", (-1, 4), shape_min=(0, 4)), "an element at least"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused_by_name(tensor, words):
    with pytest.raises(ProtocolError, match=f"tracker 1.2.0.17: input 'x': .*{words}"):
        manifest.encode(replaced(inputs=(tensor,), state=UNSET))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ModelState("explicit"), "names its tensors"),
        (ModelState("internal", {"memory": "remembered"}), "names none"),
        (ModelState("explicit", {"memory": "lost"}), "'lost' is no output"),
        (ModelState("explicit", {"boxes": "remembered"}), "'boxes' is no input"),
        (ModelState("explicit", {"threshold": "remembered"}), "FP32, output 'remembered' is BF16"),
    ],
)
def test_a_state_of_tensors_that_do_not_go_together_is_refused(state, words):
    with pytest.raises(ProtocolError, match=words):
        manifest.encode(replaced(state=state))


def test_an_output_can_have_no_batch_where_no_input_has_it():
    inputs = (Tensor("image", "FP32", (3, -1, -1), batch_axis=None),)
    with pytest.raises(ProtocolError, match=r"output 'boxes' .* say batch_axis null"):
        manifest.encode(
            replaced(inputs=inputs, outputs=(Tensor("boxes", "FP32", (-1, 6)),), state=UNSET)
        )


def test_a_batch_axis_that_is_absent_is_the_first_and_null_is_none():
    image, depth, threshold, memory = MANIFEST_2.inputs
    assert [each.batch for each in (image, depth, threshold, memory)] == [1, 0, None, None]
    assert image.element_shape == (3, -1, -1)
    assert depth.element_shape == (4,)
    assert threshold.element_shape == ()
    assert memory.element_shape == (2, 16)


def test_missing_values_are_taken_where_the_manifest_says_so_and_in_format_1():
    assert [MANIFEST_2.takes_missing(each) for each in MANIFEST_2.inputs] == [
        False, True, False, False,
    ]  # fmt: skip
    assert all(map(MANIFEST.takes_missing, MANIFEST.inputs))


@pytest.mark.parametrize("version", ["1.0+", "1.0+A", "1.0+a+b", "+1", "1.0+" + "a" * 61])
def test_a_version_with_a_build_that_is_none_is_refused(version):
    with pytest.raises(ProtocolError, match="version"):
        manifest.encode(replaced(version=version))


def test_the_page_shows_every_field_and_an_example_that_is_a_manifest():
    page = PAGE.read_text(encoding="utf-8")
    kinds = (manifest.Manifest, Tensor, manifest.Build, manifest.File, ModelState, Quantisation)
    kinds += (manifest.Golden, manifest.Start, manifest.Probation, manifest.Swap)
    fields = {f"`{name}`" for kind in kinds for name in kind.__struct_fields__}
    assert {name for name in fields if name not in page} == set()
    example = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert example is not None
    value = manifest.decode(json.dumps(json.loads(example[1])).encode())
    assert manifest.least_format(value) == value.format == 2
    assert len(value.inputs) <= limits.TENSORS_MAX
