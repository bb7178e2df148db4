"""The model a function declares: every ``STOKER_*`` variable about models, and what it does.

Variables and not config fields, so that the same function deploys unchanged on Nuclio, whose
schema has no word for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from stoker.nouns.errors import InvalidFunction


class Task(StrEnum):
    """What the model is asked for, by the name that transformers gives it."""

    FEATURE_EXTRACTION = "feature-extraction"


class Quantization(StrEnum):
    """In which numbers the weights are kept."""

    NONE = "none"
    """As the checkpoint has them."""
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    """Weights int8 per output channel, activations int8 by their range at run time."""


_NEAREST = {
    "fp16": Quantization.BF16,
    "float16": Quantization.BF16,
    "float32": Quantization.FP32,
    "bfloat16": Quantization.BF16,
    "int8-dynamic": Quantization.INT8,
    "int4": Quantization.INT8,
    "nf4": Quantization.INT8,
    "fp4": Quantization.INT8,
    "fp8": Quantization.INT8,
    "gptq": Quantization.INT8,
    "awq": Quantization.INT8,
}
"""Names that people know, and that do not work here: the nearest that does."""

_REFUSED = frozenset(
    f"STOKER_{name}"
    for name in (
        "DTYPE", "ATTENTION", "DEVICE_MAP", "OFFLOAD", "TENSOR_PARALLEL",
        "COMPILE", "ADAPTER", "QUANTIZATION_SKIP", "TRUST_REMOTE_CODE",
    )
)  # fmt: skip
"""Refused rather than ignored: a function that declares one would not get what it asks for."""


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
        description="What the model does: `feature-extraction`, one vector a text, which is also "
        "the default because it needs no head of its own.",
    )
    quantization: Quantization = Field(
        default=Quantization.NONE,
        alias="STOKER_QUANTIZATION",
        description="`none`, `fp32`, `bf16` or `int8`. The default keeps the checkpoint's own "
        "numbers, because only the user can say what a lower precision may cost.",
    )

    @field_validator("quantization", mode="before")
    @classmethod
    def _known_quantization(cls, value: Any) -> Any:
        name = str(value).strip().lower() or Quantization.NONE
        known = [str(member) for member in Quantization]
        if name in known:
            return name
        if name in _NEAREST:
            raise ValueError(
                f"{name!r} is not available on this device; the nearest that works is "
                f"{str(_NEAREST[name])!r}"
            )
        near = difflib.get_close_matches(name, [*known, *_NEAREST], n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"must be one of {', '.join(known)}, was {name!r}{guess}")

    @field_validator("task", mode="before")
    @classmethod
    def _known_task(cls, value: Any) -> Any:
        name = str(value).strip().lower() or Task.FEATURE_EXTRACTION
        known = [str(member) for member in Task]
        if name not in known:
            raise ValueError(f"must be one of {', '.join(known)}, was {name!r}")
        return name

    @classmethod
    def read(cls, env: Mapping[str, str]) -> ModelSettings:
        """The settings in an environment.

        Raises:
            InvalidFunction: naming each variable that is wrong, what it was and what it must be.
        """
        fields = _unknown_variables(env)
        try:
            settings = cls.model_validate(dict(env))
        except ValidationError as exc:
            fields += [
                {
                    "field": str(error["loc"][0]),
                    "message": str(error["msg"]).removeprefix("Value error, "),
                }
                for error in exc.errors()
            ]
            raise _invalid(fields) from exc
        if fields:
            raise _invalid(fields)
        return settings


def _unknown_variables(env: Mapping[str, str]) -> list[dict[str, Any]]:
    names = {str(field.alias) for field in ModelSettings.model_fields.values()}
    fields = []
    for name in sorted(env):
        if name in _REFUSED:
            message = "is not acted on by this version: remove it"
            fields.append({"field": name, "message": message})
        elif name.startswith("STOKER_") and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.88)
            if near:
                fields.append({"field": name, "message": f"did you mean {near[0]}?"})
    return fields


def _invalid(fields: list[dict[str, Any]]) -> InvalidFunction:
    text = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    return InvalidFunction(f"invalid model settings: {text}", fields=fields)
