"""Inputs by which a prepared model is compared with its original, whatever its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.fidelity import TEXTS, compare_losses, compare_outputs, losses, outputs
from stoker.models.layout import DEFAULT_MAX_TOKENS, context_of
from stoker.models.manifest import Fidelity
from stoker.models.tasks.texts import open_tokenizer
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_SECOND = 16_000
_DECODED = 8
"""Tokens that a decoder is asked about."""


def answers(module: PreTrainedModel, task: Task, folder: Path, *, trust: bool = False) -> list[Any]:
    """What a model says to the probes: losses of a language model, else logits."""
    if task is Task.TEXT_GENERATION:
        return list(losses(module, [row["input_ids"] for row in _texts(module, folder, trust)]))
    return list(outputs(module, _inputs(module, task, folder, trust)))


def compared(original: Sequence[Any], prepared: Sequence[Any], task: Task) -> Fidelity:
    """How near two models' `answers` are."""
    if task is Task.TEXT_GENERATION:
        return compare_losses(original, prepared)
    return compare_outputs(original, prepared)


def _inputs(module: PreTrainedModel, task: Task, folder: Path, trust: bool) -> list[dict[str, Any]]:
    if task is Task.IMAGE_CLASSIFICATION:
        return _noise(module, _image_shape(module))
    if task is Task.AUTOMATIC_SPEECH_RECOGNITION:
        return [one | _decoder(module) for one in _noise(module, _sound_shape(module))]
    return _texts(module, folder, trust)


def rows(
    module: PreTrainedModel, folder: Path, texts: Sequence[str], *, trust: bool = False
) -> list[dict[str, torch.Tensor]]:
    """Each text as a model's inputs, cut at its context and at 512 tokens."""
    tokenizer = open_tokenizer(folder, trust=trust)
    longest = context_of(module.config) or DEFAULT_MAX_TOKENS
    most = min(longest, DEFAULT_MAX_TOKENS)
    made = [
        dict(tokenizer(text, return_tensors="pt", truncation=True, max_length=most))
        for text in texts
    ]
    return [
        {"input_ids": row["input_ids"], "attention_mask": row["attention_mask"]} for row in made
    ]


def _texts(module: PreTrainedModel, folder: Path, trust: bool) -> list[dict[str, torch.Tensor]]:
    return rows(module, folder, TEXTS, trust=trust)


def _noise(module: PreTrainedModel, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    import torch

    generator = torch.Generator().manual_seed(0)
    name, kind = module.main_input_name, module.dtype
    return [{name: torch.randn(shape, generator=generator).to(kind)} for _ in range(4)]


def _image_shape(module: PreTrainedModel) -> tuple[int, ...]:
    config = module.config
    size = getattr(config, "image_size", None) or 224
    high, wide = size if isinstance(size, list | tuple) else (size, size)
    return 1, int(getattr(config, "num_channels", 3)), int(high), int(wide)


def _sound_shape(module: PreTrainedModel) -> tuple[int, ...]:
    if module.main_input_name != "input_features":
        return 1, _SECOND
    config = module.config
    frames = 2 * int(getattr(config, "max_source_positions", 1500))
    return 1, int(getattr(config, "num_mel_bins", 80)), frames


def _decoder(module: PreTrainedModel) -> dict[str, torch.Tensor]:
    import torch

    config: Any = module.config
    if not getattr(config, "is_encoder_decoder", False):
        return {}
    first = int(config.decoder_start_token_id or 0)
    rest = [index % int(config.vocab_size) for index in range(1, _DECODED)]
    return {"decoder_input_ids": torch.tensor([[first, *rest]])}
