"""What a function's environment may say about its model."""

import pytest

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.settings import ModelSettings, Quantization


def fields_of(env):
    with pytest.raises(InvalidFunction) as refused:
        ModelSettings.read(env)
    return {field["field"]: field["message"] for field in refused.value.detail["fields"]}


def test_nothing_declared_is_a_function_without_a_model():
    settings = ModelSettings.read({"PATH": "/bin", "STOKER_QUEUE_LIMIT": "10"})
    assert settings.model == ""
    assert settings.quantization is Quantization.NONE


@pytest.mark.parametrize("text", ["int8", " INT8 ", "Int8"])
def test_names_are_read_in_any_case(text):
    assert ModelSettings.read({"STOKER_QUANTIZATION": text}).quantization is Quantization.INT8


@pytest.mark.parametrize(
    ("declared", "nearest"),
    [("fp16", "bf16"), ("nf4", "int8"), ("int4", "int8"), ("fp8", "int8"), ("awq", "int8")],
)
def test_a_quantization_that_does_not_work_here_names_the_nearest_that_does(declared, nearest):
    message = fields_of({"STOKER_QUANTIZATION": declared})["STOKER_QUANTIZATION"]
    assert "not available on this device" in message
    assert f"'{nearest}'" in message


def test_a_typo_is_answered_with_the_near_name():
    message = fields_of({"STOKER_QUANTIZATION": "imt8"})["STOKER_QUANTIZATION"]
    assert "was 'imt8'" in message
    assert "did you mean 'int8'?" in message


def test_a_variable_with_a_typo_is_refused_rather_than_ignored():
    assert fields_of({"STOKER_QUANTISATION": "int8"}) == {
        "STOKER_QUANTISATION": "did you mean STOKER_QUANTIZATION?"
    }


@pytest.mark.parametrize("name", ["STOKER_DTYPE", "STOKER_TENSOR_PARALLEL", "STOKER_ADAPTER"])
def test_a_variable_that_does_not_act_is_refused_rather_than_ignored(name):
    assert "not acted on" in fields_of({name: "x"})[name]


def test_every_wrong_variable_is_named_at_once():
    env = {"STOKER_TASK": "juggling", "STOKER_QUANTIZATION": "int9", "STOKER_DTYPE": "fp8"}
    assert set(fields_of(env)) == {"STOKER_TASK", "STOKER_QUANTIZATION", "STOKER_DTYPE"}
