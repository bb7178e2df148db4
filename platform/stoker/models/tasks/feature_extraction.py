"""Texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stoker.models.encoder import Model, Vectors
from stoker.models.oip.tensor import Tensor, TensorSpec
from stoker.models.tasks.parameters import Parameters
from stoker.models.tasks.task import TaskBase
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import Task


class FeatureExtraction(TaskBase[str, Parameters]):
    """One vector of length 1 for each text: a float32 array of numpy.

    A text over the model's limit is cut, as encoders do.
    """

    task = Task.FEATURE_EXTRACTION
    parameters_type = Parameters
    block_cost = 32_768
    """Letters: some dozens of texts, which the encoder cuts into blocks by their tokens."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.manifest, model.folder, model.adapters)
        self._model = model
        self.load_seconds = model.load_seconds

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self._model.dimension

    def encode(self, texts: Sequence[str], adapter: str = "") -> Vectors:
        """See `stoker.models.encoder.Model.encode`; by an adapter, or by the model as it is.

        Raises:
            BadRequest: there is no such adapter.
        """
        self.adapters.check(adapter)
        with self.adapters.using(adapter):
            return self._model.encode(texts)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text are looked at."""
        return self._model.token_counts(texts)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return (TensorSpec("text", "BYTES", (-1,)),)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return (TensorSpec("embedding", "FP32", (-1, self.dimension)),)

    def read(self, value: Any, _options: Parameters) -> str:
        """See `TaskModel`."""
        if not isinstance(value, str):
            raise BadRequest(f"an input must be a text, was a {type(value).__name__}")
        return value

    def cost(self, item: str) -> int:
        """Its letters, so that texts of like length are encoded in one go."""
        return max(1, len(item))

    def forward(self, items: Sequence[str], _options: Parameters) -> list[Any]:
        """See `TaskBase`."""
        return list(self._model.encode(items))

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        rows = np.asarray(results, dtype=np.float32).reshape(-1, self.dimension)
        return [Tensor("embedding", "FP32", rows)]
