"""What the classifying tasks share: from logits to labels with scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field

from stoker.models.encoder import no_numbers
from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec, texts_tensor
from stoker.models.tasks.parameters import Parameters

if TYPE_CHECKING:
    import torch

Function = Literal["softmax", "sigmoid", "none"]


class ClassParameters(Parameters):
    """Of classification.

    Attributes:
        top_k: how many labels, the best first; null is all.
        function_to_apply: from logits to scores; by default what the model's config implies.
    """

    top_k: int | None = Field(default=None, ge=1)
    function_to_apply: Function | None = None

    def for_tensors(self) -> Self:
        """Tensors have all labels, in the order of the model's."""
        return self.model_copy(update={"top_k": None})


class Labels:
    """The labels of a model."""

    def __init__(self, config: Any, manifest: Manifest) -> None:
        self._manifest = manifest
        self._default = _function(config)
        self.names = [str(config.id2label[index]) for index in range(config.num_labels)]

    def results(
        self, logits: torch.Tensor, options: ClassParameters
    ) -> list[list[dict[str, object]]]:
        """For each row its labels with scores, the best first.

        Raises:
            HandlerFailed: the model got NaN.
        """
        scores = _scored(logits.float(), options.function_to_apply or self._default)
        if bool(scores.isnan().any()):
            raise no_numbers(self._manifest)
        return [self._row(row, options.top_k) for row in scores.tolist()]

    def specs(self) -> tuple[TensorSpec, ...]:
        """The output tensors."""
        return TensorSpec("label", "BYTES", (-1,)), TensorSpec(
            "scores", "FP32", (-1, len(self.names))
        )

    def tensors(self, results: Sequence[Any]) -> list[Tensor]:
        """The best label of each, and the scores of all labels in the model's order."""
        scores = np.zeros((len(results), len(self.names)), dtype=np.float32)
        for index, row in enumerate(results):
            by_name = {one["label"]: one["score"] for one in row}
            scores[index] = [by_name[name] for name in self.names]
        best = [str(row[0]["label"]) for row in results]
        return [texts_tensor("label", best), Tensor("scores", "FP32", scores)]

    def _row(self, scores: list[float], top_k: int | None) -> list[dict[str, object]]:
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        return [{"label": self.names[index], "score": scores[index]} for index in order[:top_k]]


def _function(config: Any) -> Function:
    """As transformers' pipelines choose."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"


def _scored(logits: torch.Tensor, function: Function) -> torch.Tensor:
    if function == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if function == "sigmoid" else logits
