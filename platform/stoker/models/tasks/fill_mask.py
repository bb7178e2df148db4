"""Texts with a hole to what may stand there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import Field

from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec, texts_tensor
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.parameters import Parameters
from stoker.models.tasks.task import TaskBase
from stoker.models.tasks.texts import Texts
from stoker.nouns.errors import BadRequest, UnusableModel
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    import torch
    from transformers import BatchEncoding, PreTrainedModel


class MaskParameters(Parameters):
    """Of fill-mask.

    Attributes:
        top_k: how many proposals, the best first.
        truncation: cut a text that is too long, rather than refuse it.
    """

    top_k: int = Field(default=5, ge=1)
    truncation: bool = False


class FillMask(TaskBase["BatchEncoding", MaskParameters]):
    """``[{"score", "token", "token_str", "sequence"}, …]`` for each text.

    A text with several holes gets such a list for each hole.
    """

    task = Task.FILL_MASK
    parameters_type = MaskParameters
    block_cost = 512
    card_block_cost = 2_048

    def __init__(
        self, module: PreTrainedModel, manifest: Manifest, folder: Path, adapters: Adapters
    ) -> None:
        super().__init__(manifest, folder, adapters)
        self._module = module
        self._texts = Texts(folder, module, trust=manifest.trust_remote_code)
        self._mask = self._texts.tokenizer.mask_token_id
        if self._mask is None:
            raise UnusableModel(f"{folder}: its tokenizer has no mask token")

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return (TensorSpec("text", "BYTES", (-1,)),)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`: each text's proposals are one JSON array."""
        return (TensorSpec("predictions", "BYTES", (-1,)),)

    def read(self, value: Any, options: MaskParameters) -> BatchEncoding:
        """See `TaskModel`."""
        encoding = self._texts.encode(value, truncation=options.truncation)
        if self._mask not in encoding["input_ids"]:
            raise BadRequest(f"the input has no {self._texts.tokenizer.mask_token} to fill")
        return encoding

    def cost(self, item: BatchEncoding) -> int:
        """Its tokens."""
        return len(item["input_ids"])

    def forward(self, items: Sequence[BatchEncoding], options: MaskParameters) -> list[Any]:
        """See `TaskBase`."""
        import torch

        with torch.inference_mode():
            logits = self._module(**self._texts.batch(items)).logits
            return [
                self._filled(item["input_ids"], row, options.top_k)
                for item, row in zip(items, logits, strict=True)
            ]

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        return [texts_tensor("predictions", [orjson.dumps(row).decode() for row in results])]

    def _filled(self, ids: list[int], logits: torch.Tensor, top_k: int) -> list[Any]:
        holes = [at for at, token in enumerate(ids) if token == self._mask]
        chances = logits[holes].float().softmax(-1)
        scores, tokens = chances.topk(min(top_k, chances.shape[-1]))
        rows = [
            [
                self._proposal(ids, at, token, score, alone=len(holes) == 1)
                for score, token in zip(scores[hole].tolist(), tokens[hole].tolist(), strict=True)
            ]
            for hole, at in enumerate(holes)
        ]
        return rows[0] if len(rows) == 1 else rows

    def _proposal(
        self, ids: list[int], at: int, token: int, score: float, *, alone: bool
    ) -> dict[str, Any]:
        tokenizer = self._texts.tokenizer
        filled = [*ids[:at], token, *ids[at + 1 :]]
        # With several holes the others would vanish with the special tokens.
        sequence = tokenizer.decode(filled, skip_special_tokens=alone)
        return {
            "score": score,
            "token": token,
            "token_str": tokenizer.decode([token]),
            "sequence": sequence,
        }
