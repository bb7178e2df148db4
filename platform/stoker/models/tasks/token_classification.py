"""Texts to the entities in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec, texts_tensor
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.parameters import Parameters
from stoker.models.tasks.task import TaskBase
from stoker.models.tasks.texts import Texts
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedModel


class EntityParameters(Parameters):
    """Of token classification.

    Attributes:
        aggregation_strategy: how tokens become entities; transformers' names.
        ignore_labels: labels that are left out.
        truncation: cut a text that is too long, rather than refuse it.
    """

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "none"
    ignore_labels: tuple[str, ...] = ("O",)
    truncation: bool = False


class Sentence(NamedTuple):
    """A text and its tokens."""

    text: str
    encoding: BatchEncoding


class TokenClassification(TaskBase[Sentence, EntityParameters]):
    """``[{"entity", "score", "index", "word", "start", "end"}, …]`` for each text."""

    task = Task.TOKEN_CLASSIFICATION
    parameters_type = EntityParameters
    block_cost = 512
    card_block_cost = 8_192

    def __init__(
        self, module: PreTrainedModel, manifest: Manifest, folder: Path, adapters: Adapters
    ) -> None:
        from transformers import TokenClassificationPipeline

        super().__init__(manifest, folder, adapters)
        self._module = module
        self._texts = Texts(folder, module, trust=manifest.trust_remote_code)
        if not self._texts.tokenizer.is_fast:
            raise UnusableModel(f"{folder}: its tokenizer cannot say where in a text a token is")
        # For what it makes of scores; the model is run here.
        self._pipeline = TokenClassificationPipeline(
            model=module,
            tokenizer=self._texts.tokenizer,
            # Left to itself it moves the model to the first card there is.
            device=None if hasattr(module, "hf_device_map") else module.device,
        )

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return (TensorSpec("text", "BYTES", (-1,)),)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`: entities have no fixed number, so each text's are one JSON array."""
        return (TensorSpec("entities", "BYTES", (-1,)),)

    def read(self, value: Any, options: EntityParameters) -> Sentence:
        """See `TaskModel`."""
        encoding = self._texts.encode(
            value,
            truncation=options.truncation,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
        )
        return Sentence(value, encoding)

    def cost(self, item: Sentence) -> int:
        """Its tokens."""
        return len(item.encoding["input_ids"])

    def forward(self, items: Sequence[Sentence], options: EntityParameters) -> list[Any]:
        """See `TaskBase`."""
        import torch

        with torch.inference_mode():
            batch = self._texts.batch([item.encoding for item in items])
            scores = self._module(**batch).logits.float().softmax(-1).cpu().numpy()
        return [
            self._entities(item, row[: self.cost(item)], options)
            for item, row in zip(items, scores, strict=True)
        ]

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        return [texts_tensor("entities", [orjson.dumps(row).decode() for row in results])]

    def _entities(self, item: Sentence, scores: Any, options: EntityParameters) -> list[Any]:
        import numpy as np
        from transformers.pipelines.token_classification import AggregationStrategy

        strategy = AggregationStrategy(options.aggregation_strategy)
        tokens = self._pipeline.gather_pre_entities(
            item.text,
            np.array(item.encoding["input_ids"]),
            scores,
            np.array(item.encoding["offset_mapping"]),
            np.array(item.encoding["special_tokens_mask"]),
            strategy,
        )
        found = self._pipeline.aggregate(tokens, strategy)
        return [_plain(one) for one in found if _label(one) not in options.ignore_labels]


def _label(entity: dict[str, Any]) -> Any:
    return entity.get("entity", entity.get("entity_group"))


def _plain(entity: dict[str, Any]) -> dict[str, Any]:
    """Python's own numbers in the place of numpy's."""
    return {name: _number(value) for name, value in entity.items()}


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
