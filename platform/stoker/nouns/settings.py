"""The model a function declares: every ``STOKER_*`` variable about models, and what it does.

Variables and not config fields, so that the same function deploys unchanged on Nuclio, whose
schema has no word for them. This class is their only definition and their documentation.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stoker.nouns.compression import (
    Distillation,
    Pruning,
    read_distillation,
    read_pruning,
)
from stoker.nouns.errors import InvalidFunction

Name = TypeVar("Name", bound=StrEnum)


class Task(StrEnum):
    """What the model is asked for, by the name that transformers gives it."""

    FEATURE_EXTRACTION = "feature-extraction"
    TEXT_CLASSIFICATION = "text-classification"
    TOKEN_CLASSIFICATION = "token-classification"  # noqa: S105 - tokens of a text
    FILL_MASK = "fill-mask"
    TEXT_GENERATION = "text-generation"
    IMAGE_CLASSIFICATION = "image-classification"
    AUTOMATIC_SPEECH_RECOGNITION = "automatic-speech-recognition"


class Quantization(StrEnum):
    """In which numbers the weights are kept.

    A name is what the user wants; which library carries it out depends on the device and on the
    model, and `stoker.models.recipe` chooses it.
    """

    NONE = "none"
    """As the checkpoint has them."""
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"
    """Weights int8, one scale an output channel."""
    INT8_DYNAMIC = "int8-dynamic"
    """int8 weights, and int8 activations by their range at run time."""
    INT4 = "int4"
    """Weights int4, one scale a group."""
    NF4 = "nf4"
    """4-bit NormalFloat (Dettmers et al., QLoRA, 2023)."""
    FP4 = "fp4"
    FP8 = "fp8"
    """Weights float8 (e4m3)."""
    GPTQ = "gptq"
    """int4 by second-order error compensation (Frantar et al., 2022); wants calibration data."""
    AWQ = "awq"
    """int4, scaled by the activations (Lin et al., 2023); wants calibration data."""

    @property
    def is_cast(self) -> bool:
        """Whether it only changes the weights' float type, and replaces no module."""
        return self in _CASTS


_CASTS = frozenset({Quantization.NONE, Quantization.FP32, Quantization.BF16, Quantization.FP16})


class Dtype(StrEnum):
    """Of what is not quantized, and of the activations."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Attention(StrEnum):
    """The implementation of attention."""

    AUTO = "auto"
    """The best that the device has."""
    FLASH_ATTENTION_3 = "flash_attention_3"
    FLASH_ATTENTION_2 = "flash_attention_2"
    SDPA = "sdpa"
    EAGER = "eager"


class Offload(StrEnum):
    """Where the weights go that do not fit on the devices."""

    NONE = "none"
    CPU = "cpu"
    DISK = "disk"


_ALIASES: dict[type[StrEnum], dict[str, str]] = {
    Quantization: {
        "float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16", "w8a8":
        "int8-dynamic", "int8_dynamic": "int8-dynamic", "bnb4": "nf4", "float8": "fp8",
    },
    Dtype: {"float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"},
}  # fmt: skip
"""Other names that people know."""
_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
_ADAPTER = re.compile(r"[A-Za-z0-9][\w.\-]*")


class ModelSettings(BaseModel):
    """What a function's environment says about its model.

    >>> settings = ModelSettings.read({"STOKER_MODEL": "/models/minilm", "STOKER_QUANTIZATION": ""})
    >>> settings.model, str(settings.quantization), str(settings.task)
    ('/models/minilm', 'none', 'feature-extraction')
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    model: str = Field(
        default="",
        alias="STOKER_MODEL",
        description="A folder, `package://<module>/<path>` (data files of an installed package, "
        "which is never imported), or a name on the model hub. Empty: the function has no model.",
    )
    task: Task = Field(
        default=Task.FEATURE_EXTRACTION,
        alias="STOKER_TASK",
        description="What the model does, by transformers' name. The default, one vector a text, "
        "needs no head of its own.",
    )
    quantization: Quantization = Field(
        default=Quantization.NONE,
        alias="STOKER_QUANTIZATION",
        description="In which numbers the weights are kept. The default keeps the checkpoint's "
        "own, because only the user can say what a lower precision may cost.",
    )
    skip: tuple[str, ...] = Field(
        default=(),
        alias="STOKER_QUANTIZATION_SKIP",
        description="Modules that stay in the higher precision: names or patterns (`lm_head`, "
        "`*.attn.*`), separated by commas. None by default.",
    )
    calibration: str = Field(
        default="",
        alias="STOKER_CALIBRATION",
        description="A file of texts, one a line, for methods that calibrate (`gptq`, `awq`). "
        "Must not be what the result is judged by.",
    )
    prune: Pruning | None = Field(
        default=None,
        alias="STOKER_PRUNE",
        description="What is taken out of the model before it is quantized: `layers:4` (how many "
        "stay, evenly spaced) or `layers:0,2,5` (which), `magnitude:0.3` (a share of each matrix's "
        "weights), `2:4` (two of every four), separated by commas. Empty: nothing.",
    )
    distill: Distillation | None = Field(
        default=None,
        alias="STOKER_DISTILL",
        description="Teaches what is left of the model, or STOKER_DISTILL_STUDENT, what the "
        "original says: `features` for vectors, `soft-labels` for what has logits, then `steps=`, "
        "`epochs=`, `batch=`, `rate=`, `temperature=`, `seed=`. Empty: nothing is taught.",
    )
    distill_data: str = Field(
        default="",
        alias="STOKER_DISTILL_DATA",
        description="A file of texts, one a line, that the student is taught on: a path or "
        "`package://<module>/<path>`. Must not be what the result is judged by.",
    )
    distill_student: str = Field(
        default="",
        alias="STOKER_DISTILL_STUDENT",
        description="Another model to be taught, where it is not the pruned original: named like "
        "STOKER_MODEL, with the same vocabulary.",
    )
    dtype: Dtype = Field(
        default=Dtype.AUTO,
        alias="STOKER_DTYPE",
        description="Float type of activations and of weights that are not quantized. `auto` is "
        "what is fastest on the device for the declared quantization.",
    )
    attention: Attention = Field(
        default=Attention.AUTO,
        alias="STOKER_ATTENTION",
        description="Implementation of attention. `auto` takes the best that the device has.",
    )
    device_map: str = Field(
        default="",
        alias="STOKER_DEVICE_MAP",
        description="How a model is spread over a worker's devices: accelerate's `auto`, "
        "`balanced`, `balanced_low_0`, `sequential`, or a JSON object from module to device. "
        "Empty: all of it on the worker's first device.",
    )
    offload: Offload = Field(
        default=Offload.NONE,
        alias="STOKER_OFFLOAD",
        description="Where weights go that do not fit on the devices: `cpu` or `disk`; by default "
        "they must fit.",
    )
    tensor_parallel: int = Field(
        default=1,
        ge=1,
        alias="STOKER_TENSOR_PARALLEL",
        description="Processes over which each layer is split (transformers' `tp_plan`), a device "
        "each: a worker must have as many devices, or none. By default a model is whole, which is "
        "faster wherever it fits on one device.",
    )
    compile: bool = Field(
        default=False,
        alias="STOKER_COMPILE",
        description="Compiles the model ahead of time (torch's AOTInductor) when it is prepared; "
        "workers only open the result. Off by default: it costs a minute once, and needs g++ "
        "there.",
    )
    adapters: dict[str, str] = Field(
        default_factory=dict,
        alias="STOKER_ADAPTER",
        description="peft LoRA adapters, `name=folder`, separated by commas; a request chooses one "
        "by name.",
    )
    trust_remote_code: bool = Field(
        default=False,
        alias="STOKER_TRUST_REMOTE_CODE",
        description="Runs Python code that comes with the model. Off: such a model is refused.",
    )
    pickled_weights: str = Field(
        default="",
        alias="STOKER_PICKLED_WEIGHTS",
        description="A file of pickled weights to be read (`pytorch_model.bin`), by name, with "
        "torch's `weights_only`. By default only safetensors are read.",
    )

    @field_validator("task", "quantization", "dtype", "attention", "offload", mode="before")
    @classmethod
    def _known(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[info.field_name]
        kind = field.annotation
        if not isinstance(kind, type) or not issubclass(kind, StrEnum):
            raise TypeError(f"{info.field_name} is no enumeration")
        return _named(kind, str(value), default=str(field.default))

    @field_validator("skip", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(re.split(r"[,\s]+", value.strip())) if isinstance(value, str) and value else ()

    @field_validator("prune", mode="before")
    @classmethod
    def _pruning(cls, value: Any) -> Any:
        return read_pruning(value) if isinstance(value, str) else value

    @field_validator("distill", mode="before")
    @classmethod
    def _distillation(cls, value: Any) -> Any:
        return read_distillation(value) if isinstance(value, str) else value

    @field_validator("device_map")
    @classmethod
    def _readable_map(cls, value: str) -> str:
        text = value.strip()
        if not text or text in _MAPS:
            return text
        try:
            if isinstance(json.loads(text), dict):
                return text
        except ValueError:
            pass
        raise ValueError(
            f"must be one of {', '.join(_MAPS)}, or a JSON object from module to device, was "
            f"{value!r}"
        )

    @field_validator("compile", "trust_remote_code", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        text = str(value).strip().lower()
        if text in ("", "0", "false", "no", "off"):
            return False
        if text in ("1", "true", "yes", "on"):
            return True
        raise ValueError(f"must be 1 or 0, was {value!r}")

    @field_validator("tensor_parallel", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return 1 if value == "" else value

    @field_validator("adapters", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found: dict[str, str] = {}
        for part in filter(None, (one.strip() for one in value.split(","))):
            name, equals, folder = part.partition("=")
            if not equals or not folder or not _ADAPTER.fullmatch(name):
                raise ValueError(f"must be name=folder, separated by commas, was {part!r}")
            if name in found:
                raise ValueError(f"names {name!r} twice")
            found[name] = folder
        return found

    @classmethod
    def read(cls, env: Mapping[str, str]) -> ModelSettings:
        """The settings in an environment.

        Raises:
            InvalidFunction: naming each variable that is wrong, what it was and what it must be.
        """
        fields = _misspelt(env)
        try:
            settings = cls.model_validate(dict(env))
        except ValidationError as exc:
            fields += [
                {
                    "field": str(error["loc"][0]),
                    "message": _in_words(error),
                }
                for error in exc.errors()
            ]
            raise _invalid(fields) from exc
        if fields:
            raise _invalid(fields)
        return settings


def _named(kind: type[StrEnum], text: str, *, default: str) -> str:
    """The member's value that a text means.

    Raises:
        ValueError: none, with what there is and the nearest.
    """
    name = text.strip().lower() or default
    known, aliases = [str(member) for member in kind], _ALIASES.get(kind, {})
    if name in known:
        return name
    if name in aliases:
        return aliases[name]
    near = difflib.get_close_matches(name, [*known, *aliases], n=1)
    guess = f"; did you mean {aliases.get(near[0], near[0])!r}?" if near else ""
    raise ValueError(f"must be one of {', '.join(known)}, was {name!r}{guess}")


def _in_words(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    return message if "was " in message else f"{message}, was {error['input']!r}"


def _misspelt(env: Mapping[str, str]) -> list[dict[str, Any]]:
    names = {str(field.alias) for field in ModelSettings.model_fields.values()}
    fields = []
    for name in sorted(env):
        if name.startswith("STOKER_") and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.88)
            if near:
                fields.append({"field": name, "message": f"did you mean {near[0]}?"})
    return fields


def _invalid(fields: list[dict[str, Any]]) -> InvalidFunction:
    text = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    return InvalidFunction(f"invalid model settings: {text}", fields=fields)
