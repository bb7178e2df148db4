"""What a student's answers are compared with its teacher's by, while it is taught and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch.nn import functional

from stoker.models.torch_session import pooled

if TYPE_CHECKING:
    import torch

Inputs = dict[str, "torch.Tensor"]


class Objective(Protocol):
    """Attributes: ``measure`` is what `held_out` gives, by the manifest's names."""

    measure: Literal["cosine", "divergence"]

    def loss(self, teacher: Any, student: Any, inputs: Inputs) -> torch.Tensor:
        """What the optimiser makes smaller."""
        ...

    def held_out(self, teacher: Any, student: Any, inputs: Inputs) -> torch.Tensor:
        """The measure, of each text."""
        ...


class Features:
    """Vectors by their cosine, and the states of the layers that stay by their squared distance.

    Args:
        pooling: how token vectors become one.
        kept: layers of the teacher that the student is made of; empty, where it is another model,
            of which only the last states are compared.
    """

    measure: Literal["cosine", "divergence"] = "cosine"

    def __init__(self, pooling: str, kept: Sequence[int]) -> None:
        self._pooling = pooling
        self._kept = kept

    def loss(self, teacher: Any, student: Any, inputs: Inputs) -> torch.Tensor:
        """See `Objective`."""
        theirs, ours = _states(teacher, inputs), _states(student, inputs)
        mask = inputs["attention_mask"]
        cosine = self._cosine(theirs[-1], ours[-1], mask)
        apart = [
            _squared(theirs[there], ours[here], mask) for here, there in self._pairs(len(theirs))
        ]
        return (1 - cosine).mean() + sum(apart) / len(apart)

    def held_out(self, teacher: Any, student: Any, inputs: Inputs) -> torch.Tensor:
        """See `Objective`."""
        theirs, ours = _states(teacher, inputs), _states(student, inputs)
        return self._cosine(theirs[-1], ours[-1], inputs["attention_mask"])

    def _cosine(self, theirs: Any, ours: Any, mask: torch.Tensor) -> torch.Tensor:
        vectors = pooled(theirs, mask, self._pooling) * pooled(ours, mask, self._pooling)
        return vectors.sum(-1)

    def _pairs(self, states: int) -> list[tuple[int, int]]:
        """States of the student and of the teacher that should be the same.

        After each layer the student has what the next one that it kept was given in the teacher.
        """
        inner = [(here, there) for here, there in enumerate(self._kept) if here]
        return [*inner, (-1, states - 1)]


class SoftLabels:
    """How sure a model is of each answer: logits over a temperature, as distributions."""

    measure: Literal["cosine", "divergence"] = "divergence"

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def loss(self, teacher: Any, student: Any, inputs: Inputs) -> torch.Tensor:
        """See `Objective`."""
        # By the temperature's square, so that the gradients are as large at each.
        found = self._divergence(teacher, student, inputs, self._temperature)
        return found.mean() * self._temperature**2

    def held_out(self, teacher: Any, student: Any, inputs: Inputs) -> torch.Tensor:
        """See `Objective`."""
        return self._divergence(teacher, student, inputs, 1.0)

    def _divergence(
        self, teacher: Any, student: Any, inputs: Inputs, temperature: float
    ) -> torch.Tensor:
        """Of each text; of one with an answer a token, the mean over its tokens."""
        theirs, ours = _logits(teacher, inputs), _logits(student, inputs)
        apart = functional.kl_div(
            (ours / temperature).log_softmax(-1),
            (theirs / temperature).log_softmax(-1),
            reduction="none",
            log_target=True,
        ).sum(-1)
        if apart.ndim == 1:
            return apart
        mask = inputs["attention_mask"].to(apart.dtype)
        return (apart * mask).sum(-1) / mask.sum(-1)


def _states(module: Any, inputs: Inputs) -> Any:
    return module(**inputs, output_hidden_states=True).hidden_states


def _logits(module: Any, inputs: Inputs) -> Any:
    return module(**inputs).logits.float()


def _squared(theirs: torch.Tensor, ours: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of the tokens' states, over the mean square of the teacher's."""
    here = mask.unsqueeze(-1).to(theirs.dtype)
    apart = ((theirs - ours) ** 2 * here).sum()
    return apart / (theirs**2 * here).sum().clamp(min=1e-9)
