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
    ("other", "name"), [("half", "fp16"), ("bfloat16", "bf16"), ("w8a8", "int8-dynamic")]
)
def test_other_names_that_people_know_are_understood(other, name):
    assert ModelSettings.read({"STOKER_QUANTIZATION": other}).quantization == name


def test_a_typo_is_answered_with_the_near_name():
    message = fields_of({"STOKER_QUANTIZATION": "imt8"})["STOKER_QUANTIZATION"]
    assert "was 'imt8'" in message
    assert "did you mean 'int8'?" in message


def test_a_variable_with_a_typo_is_refused_rather_than_ignored():
    assert fields_of({"STOKER_QUANTISATION": "int8"}) == {
        "STOKER_QUANTISATION": "did you mean STOKER_QUANTIZATION?"
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("STOKER_DTYPE", "fp8", "must be one of auto, fp32, bf16, fp16"),
        ("STOKER_ATTENTION", "flash_atention_2", "did you mean 'flash_attention_2'?"),
        ("STOKER_DEVICE_MAP", "everywhere", "or a JSON object from module to device"),
        ("STOKER_TENSOR_PARALLEL", "0", "greater than or equal to 1"),
        ("STOKER_ADAPTER", "french", "must be name=folder"),
        ("STOKER_ADAPTER", "a=/x,a=/y", "names 'a' twice"),
        ("STOKER_TRUST_REMOTE_CODE", "perhaps", "must be 1 or 0"),
    ],
)
def test_a_wrong_value_is_answered_with_what_it_must_be(name, value, message):
    assert message in fields_of({name: value})[name]


def test_lists_are_separated_by_commas():
    env = {"STOKER_QUANTIZATION_SKIP": "lm_head, *.attn.*", "STOKER_ADAPTER": "a=/x, b=/y"}
    settings = ModelSettings.read(env)
    assert settings.skip == ("lm_head", "*.attn.*")
    assert settings.adapters == {"a": "/x", "b": "/y"}


def test_every_wrong_variable_is_named_at_once():
    env = {"STOKER_TASK": "juggling", "STOKER_QUANTIZATION": "int9", "STOKER_DTYPE": "fp8"}
    assert set(fields_of(env)) == {"STOKER_TASK", "STOKER_QUANTIZATION", "STOKER_DTYPE"}
