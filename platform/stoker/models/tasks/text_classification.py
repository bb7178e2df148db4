"""Texts to labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.classes import ClassParameters, Labels
from stoker.models.tasks.task import TaskBase
from stoker.models.tasks.texts import Texts
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedModel


class TextClassParameters(ClassParameters):
    """Of text classification.

    Attributes:
        truncation: cut a text that is too long, rather than refuse it.
    """

    truncation: bool = False


class TextClassification(TaskBase["BatchEncoding", TextClassParameters]):
    """``[{"label", "score"}, …]`` for each text: transformers' ``top_k=None``.

    An input is a text, or ``{"text": …, "text_pair": …}``.
    """

    task = Task.TEXT_CLASSIFICATION
    parameters_type = TextClassParameters
    block_cost = 512
    card_block_cost = 8_192

    def __init__(
        self, module: PreTrainedModel, manifest: Manifest, folder: Path, adapters: Adapters
    ) -> None:
        super().__init__(manifest, folder, adapters)
        self._module = module
        self._texts = Texts(folder, module, trust=manifest.trust_remote_code)
        self._labels = Labels(module.config, manifest)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return (TensorSpec("text", "BYTES", (-1,)),)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return self._labels.specs()

    def read(self, value: Any, options: TextClassParameters) -> BatchEncoding:
        """See `TaskModel`."""
        if not isinstance(value, dict):
            return self._texts.encode(value, truncation=options.truncation)
        pair = value.get("text_pair")
        if set(value) - {"text", "text_pair"} or not isinstance(pair, (str, type(None))):
            raise BadRequest('an input must be a text, or {"text": "…", "text_pair": "…"}')
        return self._texts.encode(value.get("text"), pair, truncation=options.truncation)

    def cost(self, item: BatchEncoding) -> int:
        """Its tokens."""
        return len(item["input_ids"])

    def forward(self, items: Sequence[BatchEncoding], options: TextClassParameters) -> list[Any]:
        """See `TaskBase`."""
        import torch

        with torch.inference_mode():
            logits = self._module(**self._texts.batch(items)).logits
        return self._labels.results(logits, options)

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        return self._labels.tensors(results)
