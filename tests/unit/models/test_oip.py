"""The Open Inference Protocol's documents and bytes, as its specification has them."""

import json

import numpy as np
import pytest

from stoker.models.oip.decode import read_request
from stoker.models.oip.encode import check_outputs, response
from stoker.models.oip.routes import Ask, Route, route
from stoker.models.oip.tensor import DTYPES, Tensor, TensorSpec, from_raw, texts_tensor, to_raw
from stoker.nouns.errors import BadRequest, MethodNotAllowed, NotFound


def one_input(**changes):
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]} | changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def read(document, tail=b""):
    head = json.dumps(document).encode()
    return read_request(head + tail, str(len(head)) if tail else None)


def test_data_is_flat_or_nested():
    for data in ([1, 2.5, 3, 4], [[1, 2.5], [3, 4]]):
        tensor = read(one_input(data=data)).inputs["x"]
        np.testing.assert_array_equal(tensor.values, np.array([[1, 2.5], [3, 4]], np.float32))
        assert tensor.values.dtype == np.float32


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False]),
        ("UINT8", [0, 255]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP16", [0.5, -2]),
        ("BF16", [0.5, -2]),
        ("FP64", [1e300, 0]),
        ("BYTES", ["café", ""]),
    ],
)
def test_values_of_each_kind_go_in_and_come_out(datatype, data):
    request = read(one_input(datatype=datatype, shape=[2], data=data))
    encoded = response(request, [request.inputs["x"]], model="m", version="1")
    (output,) = json.loads(encoded.body)["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == (datatype, [2], data)
    raw = to_raw(request.inputs["x"])
    again = from_raw("x", datatype, [2], raw)
    np.testing.assert_array_equal(again.values, request.inputs["x"].values)


def test_raw_tensors_are_little_endian_and_row_major():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert to_raw(Tensor("x", "FP32", values)) == values.astype("<f4").tobytes()
    assert to_raw(Tensor("x", "FP32", values.T)) == np.ascontiguousarray(values.T).tobytes()
    assert to_raw(texts_tensor("x", ["ab", "é"])) == b"\x02\0\0\0ab\x02\0\0\0\xc3\xa9"


def test_half_precision_is_what_torch_makes_of_it():
    torch = pytest.importorskip("torch")
    values = np.array([0, 1 / 3, -2.7, 65504, 1e-3, 3e38, np.inf, np.nan, 1.00390625], np.float32)
    for datatype, dtype in (("BF16", torch.bfloat16), ("FP16", torch.float16)):
        halves = torch.from_numpy(values).to(dtype)
        expected = halves.view(torch.int16).numpy().tobytes()
        ours = to_raw(Tensor("x", datatype, values))
        mine = torch.frombuffer(bytearray(ours), dtype=dtype)
        assert torch.equal(mine.nan_to_num(7), halves.nan_to_num(7))
        back = from_raw("x", datatype, [len(values)], expected).values.astype(np.float32)
        np.testing.assert_array_equal(back, halves.float().numpy())


def test_binary_inputs_lie_one_after_the_other_behind_the_json():
    first = np.array([[1, 2]], "<i8")
    document = {
        "id": "7",
        "parameters": {"binary_data_output": True, "top_k": 2},
        "inputs": [
            {"name": "a", "shape": [1, 2], "datatype": "INT64",
             "parameters": {"binary_data_size": 16}},
            {"name": "plain", "shape": [1], "datatype": "INT8", "data": [5]},
            {"name": "b", "shape": [2], "datatype": "BYTES",
             "parameters": {"binary_data_size": 11}},
        ],
    }  # fmt: skip
    request = read(document, first.tobytes() + b"\x03\0\0\0abc\0\0\0\0")
    np.testing.assert_array_equal(request.inputs["a"].values, first)
    assert list(request.inputs["b"].values) == [b"abc", b""]
    assert request.inputs["plain"].values.tolist() == [5]
    assert (request.id, request.binary, request.parameters) == ("7", True, {"top_k": 2})


def test_outputs_are_binary_for_those_who_ask_so_and_only_the_wanted_ones():
    tensors = [texts_tensor("t", ["ab"]), Tensor("n", "FP32", np.ones((1, 2), np.float32))]
    document = one_input() | {
        "id": "9",
        "outputs": [{"name": "n", "parameters": {"binary_data": True}}, {"name": "t"}],
    }
    encoded = response(read(document), tensors, model="m", version="1")
    size = int(encoded.headers["Inference-Header-Content-Length"])
    head = json.loads(encoded.body[:size])
    assert head == {
        "model_name": "m",
        "model_version": "1",
        "id": "9",
        "outputs": [
            {"name": "n", "datatype": "FP32", "shape": [1, 2],
             "parameters": {"binary_data_size": 8}},
            {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["ab"]},
        ],
    }  # fmt: skip
    assert encoded.body[size:] == np.ones(2, "<f4").tobytes()
    assert encoded.content_type == "application/octet-stream"


def test_an_answer_without_binary_tensors_is_plain_json():
    encoded = response(read(one_input()), [texts_tensor("t", ["a"])], model="m", version="1")
    assert (encoded.content_type, encoded.headers) == ("application/json", {})
    assert "id" not in json.loads(encoded.body)


def test_binary_for_the_whole_request_can_be_overruled_by_an_output():
    document = one_input() | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "t", "parameters": {"binary_data": False}}],
    }
    encoded = response(read(document), [texts_tensor("t", ["a"])], model="m", version="1")
    assert json.loads(encoded.body)["outputs"][0]["data"] == ["a"]


def test_an_output_that_there_is_not_is_refused_with_those_there_are():
    request = read(one_input() | {"outputs": [{"name": "logits"}]})
    with pytest.raises(BadRequest, match="no output 'logits'; there are label, scores"):
        check_outputs(
            request, [TensorSpec("label", "BYTES", (-1,)), TensorSpec("scores", "FP32", (-1, 2))]
        )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "JSON object"),
        ({}, 'needs "inputs"'),
        ({"inputs": {}}, 'needs "inputs"'),
        ({"inputs": "x"}, "list of objects"),
        ({"inputs": [{"shape": [1]}]}, 'must have a "name"'),
        (one_input(datatype="FLOAT"), "one of BOOL, UINT8"),
        (one_input(datatype=None), "was None"),
        (one_input(shape=[2, -1]), r"list of lengths, was \[2, -1\]"),
        (one_input(shape=4), "list of lengths"),
        (one_input(shape=[True, 4]), "list of lengths"),
        (one_input(shape=[1] * 100, data=[1]), "at most 32 lengths"),
        (one_input(shape=[0, 2**62, 2**62], data=[]), "elements beside a 0"),
        (one_input(data=None), "has no data"),
        (one_input(data="abcd"), "must be a list, was a str"),
        (one_input(data=[1, 2, 3]), r"shape \[2, 2\] holds 4 values, data has 3"),
        (one_input(data=[[1, 2, 3], [4]]), "not nested as its shape says"),
        (one_input(data=[[1, 2], 3]), "not nested"),
        (one_input(data=[[[1], [2]], [[3], [4]]]), "not nested"),
        (one_input(data=[1, 2, 3, "4"]), "'4' is no value of FP32"),
        (one_input(datatype="INT8", data=[1, 2, 3, 300]), "from -128 to 127, was 300"),
        (one_input(datatype="INT8", data=[1, 2, 3, 4.5]), "4.5 is no value of INT8"),
        (one_input(datatype="INT8", data=[1, 2, 3, True]), "True is no value of INT8"),
        (one_input(datatype="BOOL"), "1 is no value of BOOL"),
        (one_input(datatype="BYTES"), "1 is no value of BYTES"),
        (one_input(parameters={"binary_data_size": 16}), "data, or binary_data_size"),
        (one_input(data=None, parameters={"binary_data_size": "16"}), "as a number of bytes"),
        (one_input(data=None, parameters={"binary_data_size": 16}), "and 0 bytes are left"),
        (one_input(parameters=[]) | {"parameters": 3}, "must be an object"),
        (one_input() | {"parameters": {"binary_data_output": 1}}, "true or false, was 1"),
        ({"inputs": one_input()["inputs"] * 2}, "same name"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(document, message):
    with pytest.raises(BadRequest, match=message):
        read(document)


@pytest.mark.parametrize(
    ("datatype", "tail", "message"),
    [
        ("FP32", b"\0" * 12, "FP32 of shape .2, 2. are 16 bytes, binary_data_size is 12"),
        ("BF16", b"\0" * 12, "are 8 bytes, binary_data_size is 12"),
        ("BYTES", b"\x08\0\0\0" + b"a" * 8, "holds 4 elements, were 1"),
        ("BYTES", b"\xff\0\0\0" + b"a" * 8, "BYTES element 0 is cut off"),
        ("BYTES", b"\0" * 10 + b"aa", "BYTES element 2 is cut off"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(datatype, tail, message):
    document = one_input(datatype=datatype, data=None, parameters={"binary_data_size": 12})
    with pytest.raises(BadRequest, match=message):
        read(document, tail)


def test_bytes_that_belong_to_no_input_are_refused():
    with pytest.raises(BadRequest, match="3 bytes follow"):
        read(one_input(), b"abc")


@pytest.mark.parametrize("length", ["", "-1", "x", "100000", "٣", "9" * 5000])
def test_a_wrong_header_length_is_refused(length):
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length must be a number"):
        read_request(json.dumps(one_input()).encode(), length)


def test_raw_bytes_without_the_header_say_which_header_is_missing():
    with pytest.raises(BadRequest, match="need the header Inference-Header-Content-Length"):
        read_request(json.dumps(one_input()).encode() + b"\x01\x02", None)


def test_a_shape_that_no_memory_holds_is_counted_and_not_made():
    with pytest.raises(BadRequest, match="data has 4"):
        read(one_input(shape=[2**40, 2**40]))
    with pytest.raises(BadRequest, match="binary_data_size is 1"):
        read(one_input(shape=[2**62, 8], data=None, parameters={"binary_data_size": 1}), b"x")


def test_every_datatype_of_the_protocol_is_there():
    assert set(DTYPES) == {
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
        "FP16", "FP32", "FP64", "BF16", "BYTES",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2", Route(Ask.SERVER)),
        ("GET", "/v2/", Route(Ask.SERVER)),
        ("GET", "/v2/health/live", Route(Ask.LIVE)),
        ("HEAD", "/v2/health/ready", Route(Ask.READY)),
        ("GET", "/v2/models/m", Route(Ask.MODEL, "m")),
        ("GET", "/v2/models/a%2Fb/ready", Route(Ask.MODEL_READY, "a/b")),
        ("GET", "/v2/models/m/versions/1", Route(Ask.MODEL, "m")),
        ("GET", "/v2/models/m/versions/1/ready", Route(Ask.MODEL_READY, "m")),
        ("POST", "/v2/models/m/infer", Route(Ask.INFER, "m")),
        ("POST", "/v2/models/m/versions/1/infer", Route(Ask.INFER, "m")),
    ],
)
def test_paths_mean_what_the_specification_says(method, path, expected):
    assert route(method, path) == expected


@pytest.mark.parametrize(
    "path",
    ["/v2/models", "/v2/models/m/versions/2/infer", "/v2/models/m/explain", "/v2/repository"],
)
def test_other_paths_are_not_there(path):
    with pytest.raises(NotFound):
        route("GET", path)


def test_a_wrong_method_says_which_is_right():
    with pytest.raises(MethodNotAllowed, match="takes POST, was GET"):
        route("GET", "/v2/models/m/infer")
    with pytest.raises(MethodNotAllowed, match="takes GET, was POST"):
        route("POST", "/v2/models/m")
