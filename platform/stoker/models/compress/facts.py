"""What the manifest says of how a model was made smaller."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Pruned(BaseModel):
    """What was taken out.

    Attributes:
        declared: in one spelling.
        layers_before: of the model that was pruned; 0 where no layer was taken out.
        layers_kept: by their numbers in it; empty where no layer was taken out.
        matrices: weight matrices in which weights became zero.
        weights: that those have together.
        zeroed: of them, that are zero now.
        parameters_before, parameters_after: of the whole model, zeros counted.
    """

    model_config = ConfigDict(frozen=True)

    declared: str
    layers_before: int = 0
    layers_kept: list[int] = []
    matrices: int = 0
    weights: int = 0
    zeroed: int = 0
    parameters_before: int
    parameters_after: int

    @property
    def sparsity(self) -> float:
        """Zeros over weights, in the matrices that were pruned."""
        return self.zeroed / self.weights if self.weights else 0.0


class HeldOut(BaseModel):
    """How near the student is to its teacher, on texts that it was not taught on.

    Attributes:
        measure: ``cosine`` of vectors (1 is equal), or ``divergence``, Kullback and Leibler's of
            the distributions that the logits mean (0 is equal).
        texts: that were held out.
        before, after: the teaching.
    """

    model_config = ConfigDict(frozen=True)

    measure: Literal["cosine", "divergence"]
    texts: int
    before: float
    after: float


class Distilled(BaseModel):
    """How a student was taught.

    Attributes:
        declared: in one spelling, what was not said filled in.
        student: the model that was taught, where it is not the pruned original.
        texts: different ones, that it was taught on.
        digest: SHA-256 of their file.
        steps: of the optimiser.
        seconds: that they took.
        loss_first, loss_last: means over the first and the last tenth of the steps.
    """

    model_config = ConfigDict(frozen=True)

    declared: str
    student: str = ""
    texts: int
    digest: str
    steps: int
    seconds: float
    loss_first: float
    loss_last: float
    held_out: HeldOut
