"""Sounds to the words spoken in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import FLOATS, Tensor, TensorSpec, texts_tensor
from stoker.models.placement import device_of
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.parameters import Parameters
from stoker.models.tasks.sounds import LEAST_RATE, MOST_RATE, Samples, resampled, sound
from stoker.models.tasks.task import TaskBase, bytes_in
from stoker.nouns.errors import BadRequest, UnusableModel
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_PROMPT_TOKENS = 4
"""Of Whisper's decoder: start, language, task, no time stamps."""


class SpeechParameters(Parameters):
    """Of automatic speech recognition.

    Attributes:
        language: of the speech, for a multilingual model; by default it finds out.
        translate: into English.
        max_new_tokens: of one transcript; by default the model's own bound.
        sampling_rate: of inputs that are samples; by default the model's.
    """

    language: str | None = None
    translate: bool = False
    max_new_tokens: int | None = Field(default=None, ge=1)
    sampling_rate: int | None = Field(default=None, ge=LEAST_RATE, le=MOST_RATE)


class SpeechRecognition(TaskBase[Samples, SpeechParameters]):
    """``{"text": …}`` for each sound, of a model of Whisper's kind.

    An input is a WAV file: base64, a ``data:`` URL, raw bytes; or samples as a numpy array.
    """

    task = Task.AUTOMATIC_SPEECH_RECOGNITION
    parameters_type = SpeechParameters
    block_cost = 8

    def __init__(
        self, module: PreTrainedModel, manifest: Manifest, folder: Path, adapters: Adapters
    ) -> None:
        super().__init__(manifest, folder, adapters)
        self._module = module
        self._device = device_of(module)
        self._processor = _processor(folder, trust=manifest.trust_remote_code)
        self._extractor = self._processor.feature_extractor
        self._rate = int(self._extractor.sampling_rate)
        self._longest = getattr(self._extractor, "n_samples", None)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`: files of sounds; samples are taken too, as FP32 [n, samples]."""
        return (TensorSpec("audio", "BYTES", (-1,)),)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return (TensorSpec("text", "BYTES", (-1,)),)

    def options(self, parameters: Mapping[str, Any], *, tensors: bool = False) -> SpeechParameters:
        """See `TaskModel`."""
        options = super().options(parameters, tensors=tensors)
        self._check_language(options)
        most = getattr(self._module.config, "max_target_positions", None)
        if most and options.max_new_tokens and options.max_new_tokens > most - _PROMPT_TOKENS:
            raise BadRequest(
                f"parameters.max_new_tokens: must be at most {most - _PROMPT_TOKENS}, was "
                f"{options.max_new_tokens}"
            )
        return options

    def read(self, value: Any, options: SpeechParameters) -> Samples:
        """See `TaskModel`."""
        if isinstance(value, np.ndarray):
            with np.errstate(over="ignore"):  # which is an infinity, and is refused below
                samples = value.astype(np.float32)
            own = options.sampling_rate or self._rate
        else:
            samples, own = sound(value)
        if not np.isfinite(samples).all():
            raise BadRequest("the samples must be finite numbers; there is a NaN or an infinity")
        self._check_length(len(samples) / own)
        return resampled(samples, own, self._rate)[: self._longest]

    def _check_language(self, options: SpeechParameters) -> None:
        known = getattr(self._module.generation_config, "lang_to_id", None) or {}
        if (options.language or options.translate) and not known:
            raise BadRequest(
                "parameters.language, parameters.translate: this model knows one language only"
            )
        if options.language and f"<|{_code(options.language)}|>" not in known:
            codes = ", ".join(sorted(name.strip("<|>") for name in known))
            raise BadRequest(
                f"parameters.language: the model does not know {options.language!r:.40}; it knows "
                f"{codes}"
            )

    def _check_length(self, seconds: float) -> None:
        limit = None if self._longest is None else self._longest / self._rate
        if limit is not None and seconds > limit:
            raise BadRequest(
                f"the sound takes {seconds:.1f} s, the model hears {limit:g} s at once; send it "
                "in parts",
                seconds=round(seconds, 3),
                limit=limit,
            )

    def forward(self, items: Sequence[Samples], options: SpeechParameters) -> list[Any]:
        """See `TaskBase`."""
        import torch

        features = self._extractor(
            list(items),
            sampling_rate=self._rate,
            return_tensors="pt",
            return_attention_mask=True,
        )
        with torch.inference_mode():
            tokens = self._module.generate(
                features["input_features"].to(self._device, self._module.dtype),
                attention_mask=features["attention_mask"].to(self._device),
                **_wishes(options),
            )
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [{"text": text} for text in texts]

    def inputs_from(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """See `TaskModel`."""
        tensor = self._only(tensors)
        if tensor.datatype not in FLOATS:
            return list(bytes_in(tensor))
        if len(tensor.shape) != 2 or not tensor.shape[1]:
            raise BadRequest(
                f"input {tensor.name!r}: samples must have the shape [n, samples], was "
                f"{tensor.shape}"
            )
        return list(tensor.values)

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        return [texts_tensor("text", [one["text"] for one in results])]


def _code(language: str) -> str:
    """``en`` of "English", "en" and "EN"."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    return str(TO_LANGUAGE_CODE.get(language.lower(), language.lower()))


def _wishes(options: SpeechParameters) -> dict[str, Any]:
    wishes = {
        "max_new_tokens": options.max_new_tokens,
        "language": options.language,
        "task": "translate" if options.translate else None,
    }
    return {name: value for name, value in wishes.items() if value is not None}


def _processor(folder: Path, *, trust: bool) -> Any:
    import transformers

    try:
        processor = transformers.AutoProcessor.from_pretrained(
            str(folder), trust_remote_code=trust, local_files_only=True
        )
    except Exception as exc:  # transformers raises anything here
        raise UnusableModel(f"{folder} has no speech processor that can be read: {exc}") from exc
    if not hasattr(processor, "feature_extractor"):
        raise UnusableModel(f"{folder} has no feature extractor for sounds")
    return processor
