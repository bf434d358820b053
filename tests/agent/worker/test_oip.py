"""The Open Inference Protocol V2 codec: what goes in comes out, and every fault has its words."""

import contextlib
import json
import os
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from muster_agent.runtimes.base import NUMPY_TYPES
from muster_agent.worker import oip
from muster_agent.worker.oip_values import PIECE_ELEMENTS, OipError

names = st.text(min_size=1, max_size=20)
NUMBERS = [name for name in NUMPY_TYPES if name != "BYTES"]


def arrays(datatypes: list[str], *, finite: bool) -> st.SearchStrategy[Any]:
    def of(datatype: str) -> st.SearchStrategy[Any]:
        shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
        if datatype == "BYTES":
            text = st.text(max_size=8).map(str.encode) if finite else st.binary(max_size=8)
            return shape.flatmap(
                lambda size: st.lists(
                    text, min_size=int(np.prod(size)), max_size=int(np.prod(size))
                ).map(lambda items: objects(items, size))
            )
        dtype = NUMPY_TYPES[datatype]
        limits = {"allow_nan": False, "allow_infinity": False} if finite else {}
        elements = hnp.from_dtype(dtype, **(limits if dtype.kind == "f" else {}))
        return hnp.arrays(dtype, shape, elements=elements)

    return st.sampled_from(datatypes).flatmap(of)


def objects(items: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    if left.dtype.kind == "O":
        return left.tolist() == right.tolist()
    return left.dtype == right.dtype and np.array_equal(
        left, right, equal_nan=left.dtype.kind == "f"
    )


@given(
    st.dictionaries(names, arrays(list(NUMPY_TYPES), finite=True), min_size=1, max_size=3), names
)
def test_json_requests_come_back_as_they_were(inputs: dict[str, Any], identifier: str) -> None:
    body, header = oip.encode_request(inputs, identifier=identifier)
    assert header is None
    asked = oip.decode_request(body)
    quick = oip.decode_request(body, floats=True)
    assert all(same(quick.inputs[name], array) for name, array in asked.inputs.items())
    assert asked.id == identifier
    assert list(asked.inputs) == list(inputs)
    for name, array in inputs.items():
        assert asked.inputs[name].shape == array.shape
        assert same(asked.inputs[name], array)


@given(st.dictionaries(names, arrays(list(NUMPY_TYPES), finite=False), min_size=1, max_size=3))
def test_binary_requests_and_responses_come_back_bit_for_bit(tensors: dict[str, Any]) -> None:
    body, header = oip.encode_request(tensors, binary=True)
    asked = oip.decode_request(body, header)
    body, header = oip.encode_response(tensors, model="m", version="1", binary=set(tensors))
    answered = oip.decode_response(body, header)
    for got in (asked.inputs, answered):
        assert list(got) == list(tensors)
        for name, array in tensors.items():
            assert got[name].shape == array.shape
            assert same(got[name], array)


@given(st.data())
def test_nested_and_flat_data_mean_the_same(data: Any) -> None:
    array = data.draw(arrays(["INT32", "FP32", "BOOL"], finite=True))
    if array.ndim == 0 or array.size == 0:
        return
    datatype = {"i": "INT32", "f": "FP32", "b": "BOOL"}[array.dtype.kind]
    entry = {"name": "x", "shape": array.shape, "datatype": datatype}
    nested = oip.decode_request(encode({"inputs": [entry | {"data": array.tolist()}]}))
    flat = oip.decode_request(encode({"inputs": [entry | {"data": array.ravel().tolist()}]}))
    assert same(nested.inputs["x"], flat.inputs["x"])


@given(st.binary(max_size=200), st.none() | st.integers(-1, 300))
def test_no_bytes_at_all_raise_anything_but_an_oip_error(body: bytes, header: int | None) -> None:
    with contextlib.suppress(OipError):
        oip.decode_request(body, header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(list(NUMPY_TYPES)), st.lists(st.integers(0, 4), max_size=3), json_values)
def test_no_json_data_raises_anything_but_an_oip_error(
    datatype: str, shape: list[int], data: object
) -> None:
    entry = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    try:
        asked = oip.decode_request(json.dumps({"inputs": [entry]}).encode())
    except OipError:
        return
    assert asked.inputs["x"].shape == tuple(shape)
    assert asked.inputs["x"].dtype == NUMPY_TYPES[datatype]


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def input_tensor(datatype: str, shape: list[int], data: object, **fields: Any) -> bytes:
    entry = {"name": "x", "datatype": datatype, "shape": shape, "data": data} | fields
    return encode({"inputs": [entry]})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not an inference request: Input data was truncated"),
        (b"[]", "not an inference request: Expected `object`, got `array`"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs":[]}', "0 inputs; allowed are 1 to 256"),
        (input_tensor("FP99", [1], [1]), "Invalid enum value 'FP99' - at `$.inputs[0].datatype`"),
        (
            input_tensor("FP32", [2], [1]),
            "input 'x': shape [2] needs 2 elements, the data has shape [1]",
        ),
        (
            input_tensor("FP32", [2, 2], [[1], [2, 3]]),
            "input 'x': rows of the data differ in length",
        ),
        (input_tensor("FP32", [1], ["1"]), "input 'x': the data must be numbers for FP32"),
        (input_tensor("FP32", [1], [{}]), "input 'x': the data must be numbers for FP32"),
        (input_tensor("FP32", [1], [True]), "input 'x': the data must be numbers for FP32"),
        (input_tensor("FP32", [1], [1e300]), "input 'x': a number is out of range for FP32"),
        (input_tensor("FP64", [1], [10**400]), "out of range"),
        (input_tensor("INT8", [1], [128]), "input 'x': a number is out of range for INT8"),
        (input_tensor("UINT64", [1], [-1]), "input 'x': a number is out of range for UINT64"),
        (input_tensor("INT32", [1], [1.5]), "input 'x': the data must be integers for INT32"),
        (input_tensor("INT32", [1], [True]), "input 'x': the data must be integers for INT32"),
        (input_tensor("BOOL", [1], [1]), "input 'x': the data must be true or false for BOOL"),
        (input_tensor("BYTES", [1], [1]), "input 'x': the data must be strings for BYTES"),
        (input_tensor("FP32", [-1], [1]), "input 'x': [-1] is not a shape"),
        (input_tensor("FP32", [1] * 9, [1]), "is not a shape"),
        (input_tensor("FP32", [1 << 30], [1]), "1073741824 elements, the limit is 268435456"),
        (input_tensor("FP32", [1], None), "input 'x' has no data"),
        (
            input_tensor("FP32", [1], None, parameters={"binary_data_size": 4}),
            "no Inference-Header-Content-Length header",
        ),
        (
            encode({"inputs": json.loads(input_tensor("FP32", [1], [1]))["inputs"] * 2}),
            "input 'x' is given twice",
        ),
    ],
)
def test_a_bad_json_request_is_told_what_is_wrong(body: bytes, said: str) -> None:
    for floats in (False, True):
        with pytest.raises(OipError) as caught:
            oip.decode_request(body, floats=floats)
        assert said in str(caught.value)
    assert caught.value.status == 400


def binary(datatype: str, shape: list[int], data: bytes, size: object = None) -> tuple[bytes, int]:
    size = len(data) if size is None else size
    head = input_tensor(datatype, shape, None, parameters={"binary_data_size": size})
    return head + data, len(head)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (binary("FP32", [2], b"\0" * 4), "input 'x': FP32 [2] is 8 bytes, 4 came"),
        (binary("FP32", [1], b"\0" * 4, 8), "input 'x': 8 bytes announced, 4 came"),
        (binary("FP32", [1], b"\0" * 8, 4), "4 bytes of tensor data belong to no input"),
        (binary("FP32", [1], b"\0" * 4, -4), "binary_data_size -4 is not a size"),
        (binary("FP32", [1], b"\0" * 4, "4"), "binary_data_size '4' is not a size"),
        (binary("BOOL", [1], b"\2"), "a BOOL is one byte, 0 or 1"),
        (binary("BYTES", [1], struct.pack("<I", 9) + b"abc"), "an element of 9 bytes runs past"),
        (binary("BYTES", [2], struct.pack("<I", 1) + b"a"), "the data is not 2 elements of BYTES"),
        (binary("BYTES", [1], struct.pack("<II", 0, 0)), "the data is not 1 elements of BYTES"),
        ((b"{}", 3), "Inference-Header-Content-Length 3 exceeds the 2 byte body"),
    ],
)
def test_a_bad_binary_request_is_told_what_is_wrong(request_: tuple[bytes, int], said: str) -> None:
    with pytest.raises(OipError) as caught:
        oip.decode_request(*request_)
    assert said in str(caught.value)


def test_wanted_outputs_may_be_named_and_asked_for_in_binary() -> None:
    base = json.loads(input_tensor("FP32", [1], [1]))
    asked = oip.decode_request(encode(base))
    assert asked.outputs is None
    assert not asked.is_binary("y")
    asked = oip.decode_request(encode(base | {"parameters": {"binary_data_output": True}}))
    assert asked.is_binary("y")
    outputs = [{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}]
    asked = oip.decode_request(encode(base | {"outputs": outputs}))
    assert asked.outputs == ("y", "z")
    assert asked.is_binary("y")
    assert not asked.is_binary("z")


def test_json_has_no_nan_so_it_becomes_null() -> None:
    outputs = {"y": np.array([1.5, np.nan, np.inf], np.float32)}
    body, _ = oip.encode_response(outputs, model="m", version="1", identifier="a")
    assert json.loads(body) == {
        "model_name": "m",
        "model_version": "1",
        "id": "a",
        "outputs": [{"name": "y", "shape": [3], "datatype": "FP32", "data": [1.5, None, None]}],
    }


def test_each_number_has_the_fewest_digits_that_give_it_back() -> None:
    body, _ = oip.encode_response({"y": np.float32([0.1, 1e30])}, model="m", version="1")
    assert b'"data":[0.1,1e+30]' in body


@pytest.mark.parametrize("dtype", ["f4", "i8", "?"])
def test_more_numbers_than_are_written_at_once_come_back_too(dtype: str) -> None:
    numbers = np.arange(2 * PIECE_ELEMENTS + 3).astype(dtype)
    body, _ = oip.encode_request({"x": numbers[::-1]})
    assert np.array_equal(oip.decode_request(body).inputs["x"], numbers[::-1])


# One process for all limits: it has what it needs, and each child may take so much more.
_SHORT_OF_MEMORY = """
import os, resource
import numpy as np
from muster_agent.worker import oip
numbers = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
had = int(open("/proc/self/statm").read().split()[0]) * 4096
for more in range(0, 12 << 20, 192 << 10):
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (had + more, had + more))
        try:
            oip.encode_response({"y": numbers}, model="m", version="1")
        except MemoryError:
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_an_answer_that_memory_does_not_suffice_for_is_an_error_and_no_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SHORT_OF_MEMORY], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, timeout=120,
    )  # fmt: skip
    assert set(done.stdout.split()) == {"0", "1"}, done.stdout


@pytest.mark.parametrize("word", ["null", "NaN"])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_a_missing_value_is_data_in_tensors_of_floats(word: str, datatype: str) -> None:
    body = (
        f'{{"inputs": [{{"name": "x", "shape": [1, 3], "datatype": "{datatype}", '
        f'"data": [[1.5, {word}, 2]]}}]}}'
    )
    (x,) = oip.decode_request(body.encode()).inputs.values()
    np.testing.assert_array_equal(x, [[1.5, np.nan, 2.0]])


@pytest.mark.parametrize(
    ("datatype", "data"),
    [("INT32", "[1, null]"), ("BOOL", "[true, null]"), ("FP32", "[1, Infinity]"),
     ("FP32", "[1, NaN, Infinity]"), ("INT32", "[NaN, 1]"), ("FP32", '[1, "NaN"]')],
)  # fmt: skip
def test_a_missing_value_is_refused_where_there_is_none(datatype: str, data: str) -> None:
    body = (
        f'{{"inputs": [{{"name": "x", "shape": [2], "datatype": "{datatype}", "data": {data}}}]}}'
    )
    with pytest.raises(OipError):
        oip.decode_request(body.encode())


def test_bf16_is_the_upper_half_of_fp32_rounded_to_the_nearest_even() -> None:
    numbers = [1.0, 1.00390625, 1.01171875, -2.5, 3.4e38, float("inf"), float("nan")]
    want = [0x3F80, 0x3F80, 0x3F82, 0xC020, 0x7F80, 0x7F80, 0x7FC0]
    array = np.array([numbers], np.float32)
    body, header = oip.encode_request({"x": array}, binary=True, datatypes={"x": "BF16"})
    assert header is not None
    assert np.frombuffer(body[header:], "<u2").tolist() == want
    got = oip.decode_request(body, header).inputs["x"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[0, [0, 3, 5, 6]], array[0, [0, 3, 5, 6]])
    with pytest.raises(OipError, match=r"BF16 \[1, 7\] is 14 bytes, 16 came"):
        oip.decode_request(body.replace(b'_size":14', b'_size":16') + b"\0\0", header)
