"""Which back end carries a declaration out, by device."""

import pytest

from stoker.models.device import Target, target
from stoker.models.recipe import choose
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import ModelSettings

CPU = Target("cpu")
OLD_CPU = Target("cpu", bf16=False)
HOPPER = Target("cuda", (9, 0))
TURING = Target("cuda", (7, 5), bf16=False)


def recipe(device=CPU, **env):
    named = {f"STOKER_{name}": value for name, value in env.items()}
    return choose(ModelSettings.read({"STOKER_MODEL": "m", **named}), device)


def refusal(device=CPU, **env):
    with pytest.raises(UnusableModel) as refused:
        recipe(device, **env)
    return refused.value.message


@pytest.mark.parametrize(
    ("quantization", "task", "device", "backend", "method"),
    [
        ("int8", "feature-extraction", CPU, "onnxruntime", "int8"),
        ("int8-dynamic", "feature-extraction", CPU, "onnxruntime", "int8"),
        ("int8", "text-generation", CPU, "torchao", "int8"),
        ("int8", "feature-extraction", HOPPER, "torchao", "int8"),
        ("int8-dynamic", "text-generation", CPU, "torchao", "int8-dynamic"),
        ("int4", "feature-extraction", CPU, "torchao", "int4"),
        ("int4", "text-generation", HOPPER, "torchao", "int4"),
        ("nf4", "text-generation", CPU, "bitsandbytes", "nf4"),
        ("fp4", "text-generation", TURING, "bitsandbytes", "fp4"),
        ("fp8", "text-generation", HOPPER, "torchao", "fp8"),
        ("bf16", "text-generation", CPU, "torch", "bf16"),
        ("fp16", "text-generation", TURING, "torch", "fp16"),
        ("none", "text-generation", CPU, "torch", "none"),
    ],
)
def test_one_declaration_is_the_right_back_end_of_each_device(
    quantization, task, device, backend, method
):
    chosen = recipe(device, QUANTIZATION=quantization, TASK=task)
    assert (chosen.backend, chosen.method.name) == (backend, method)


@pytest.mark.parametrize(
    ("quantization", "device", "nearest"),
    [
        ("bf16", TURING, "fp16"),
        ("int4", TURING, "nf4"),
        ("fp8", TURING, "int8"),
    ],
)
def test_what_a_device_has_not_is_refused_with_the_nearest_that_works(
    quantization, device, nearest
):
    message = refusal(device, QUANTIZATION=quantization, TASK="text-generation")
    assert f"STOKER_QUANTIZATION={quantization}" in message
    assert f"the nearest that works is '{nearest}'" in message
    recipe(device, QUANTIZATION=nearest, TASK="text-generation")


def test_fp16_on_a_cpu_is_bf16_and_says_so():
    chosen = recipe(QUANTIZATION="fp16")
    assert chosen.dtype == "bf16"
    assert "kept in bf16" in chosen.notices[0]
    assert not recipe(HOPPER, QUANTIZATION="fp16").notices


@pytest.mark.parametrize(
    ("device", "expected"), [(CPU, "bf16"), (OLD_CPU, "fp32"), (HOPPER, "bf16")]
)
def test_activations_have_the_type_that_is_fast_on_the_device(device, expected):
    assert recipe(device, QUANTIZATION="int8", TASK="text-generation").dtype == expected


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"TENSOR_PARALLEL": "2", "QUANTIZATION": "int8"},
            "STOKER_QUANTIZATION=int8 does not go with STOKER_TENSOR_PARALLEL=2; the nearest that "
            "works is bf16",
        ),
        ({"TENSOR_PARALLEL": "2", "DEVICE_MAP": "auto"}, "STOKER_DEVICE_MAP=auto does not go with"),
        ({"TENSOR_PARALLEL": "2", "ADAPTER": "a=/x"}, "STOKER_ADAPTER=a does not go with"),
        (
            {"TENSOR_PARALLEL": "2", "TASK": "automatic-speech-recognition"},
            "STOKER_TASK=automatic-speech-recognition does not go with",
        ),
        ({"TENSOR_PARALLEL": "2", "COMPILE": "1"}, "STOKER_COMPILE=1 does not go with"),
        ({"COMPILE": "1", "TASK": "text-generation"}, "and text-classification only"),
        (
            {"COMPILE": "1", "QUANTIZATION": "int8"},
            "does not apply to int8, whose kernels are onnx",
        ),
        ({"COMPILE": "1", "ATTENTION": "eager"}, "does not go with STOKER_ADAPTER"),
        (
            {"ADAPTER": "a=/x", "QUANTIZATION": "int8"},
            "ONNX Runtime computes; the nearest that works is STOKER_QUANTIZATION=bf16",
        ),
        ({"CALIBRATION": "texts.txt"}, "STOKER_CALIBRATION is for gptq and awq"),
        ({"OFFLOAD": "disk"}, "needs STOKER_DEVICE_MAP"),
        ({"ATTENTION": "flash_attention_2"}, "nearest that works is sdpa"),
        ({"QUANTIZATION": "bf16", "DTYPE": "fp32"}, "contradicts STOKER_QUANTIZATION=bf16"),
        ({"QUANTIZATION": "bf16", "QUANTIZATION_SKIP": "x"}, "nothing to keep"),
        ({"QUANTIZATION": "int8", "DTYPE": "bf16"}, "does not work with int8 by onnxruntime"),
        ({"QUANTIZATION": "int8", "ATTENTION": "sdpa"}, "which ONNX Runtime computes"),
        ({"QUANTIZATION": "int8", "DEVICE_MAP": "auto"}, "does not apply to int8"),
    ],
)
def test_a_variable_acts_or_is_refused_and_is_never_ignored(env, message):
    assert message in refusal(**env)


@pytest.mark.parametrize(
    "change", [{"QUANTIZATION_SKIP": "lm_head"}, {"DTYPE": "fp32"}, {"TRUST_REMOTE_CODE": "1"}]
)
def test_what_changes_the_result_changes_its_key(change):
    env = {"QUANTIZATION": "int8-dynamic", "TASK": "text-generation"}
    assert recipe(**env, **change).key("d") != recipe(**env).key("d")


@pytest.mark.parametrize("visible", ["", "SIM-0,SIM-1", "-1"])
def test_without_a_real_card_models_are_for_the_cpu(visible):
    assert target({"CUDA_VISIBLE_DEVICES": visible}).kind == "cpu"


def test_a_build_step_may_be_told_its_device():
    assert target({"STOKER_BUILD_DEVICE": "cuda:8.9"}) == Target("cuda", (8, 9))
    assert target({"STOKER_BUILD_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "GPU-1"}).kind == "cpu"
    with pytest.raises(UnusableModel, match="was 'tpu'"):
        target({"STOKER_BUILD_DEVICE": "tpu"})


def test_a_card_that_torch_cannot_use_is_said_rather_than_served_by_the_cpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UnusableModel, match=r"was given the card GPU-1, and torch .* CUDA"):
        target({"CUDA_VISIBLE_DEVICES": "GPU-1"})


@pytest.mark.parametrize(
    ("env", "faster"),
    [
        ({"QUANTIZATION": "bf16", "DTYPE": "bf16"}, "int8, or fp32"),
        ({"QUANTIZATION": "bf16", "COMPILE": "1"}, "int8, or fp32"),
        ({"QUANTIZATION": "bf16", "DTYPE": "bf16", "TASK": "text-generation"}, "fp32"),
        ({"QUANTIZATION": "fp16", "DTYPE": "fp16"}, "int8, or fp32"),
        ({"QUANTIZATION": "nf4", "DTYPE": "bf16", "TASK": "text-generation"}, "fp32"),
    ],
)
def test_what_a_cpu_only_emulates_is_said_to_be_slow_there(env, faster):
    """3 to 7 times as slow as fp32 on a CPU without AVX-512, and the name promises the reverse."""
    told = recipe(OLD_CPU, **env).notices[-1]
    assert "no bf16 instructions" in told
    assert told.endswith(f"what is faster here is {faster}")
    assert not any("instructions" in line for line in recipe(CPU, **env).notices)
    assert not recipe(OLD_CPU, QUANTIZATION="fp32").notices
