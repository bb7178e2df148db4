"""Teaching a student what its teacher says, within a number of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stoker.models.compress.facts import HeldOut
from stoker.models.compress.lessons import Desk, batches
from stoker.models.compress.objectives import Objective
from stoker.nouns.compression import Distillation
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    import torch

_SAID = 10
"""Lines of progress."""
_WARM = 0.1
_MEASURED = 32


class School:
    """A teacher, a student and what the one should learn of the other.

    The student is taught without dropout: a few hundred steps do not overfit by it, and the same
    seed on one thread gives the same student.
    """

    def __init__(self, teacher: Any, student: Any, objective: Objective, desk: Desk) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = student.eval()
        self.objective = objective
        self._desk = desk

    def teach(
        self, texts: Sequence[str], how: Distillation, progress: Callable[[str], None]
    ) -> list[float]:
        """Changes the student; the loss of each step.

        Raises:
            UnusableModel: the loss is no number any more.
        """
        import torch
        import transformers

        steps = how.steps_over(len(texts))
        learning = self._learning()
        optimizer = torch.optim.AdamW(learning, lr=how.rate)
        schedule = transformers.get_cosine_schedule_with_warmup(
            optimizer, math.ceil(_WARM * steps), steps
        )
        losses: list[float] = []
        started, every = time.monotonic(), max(1, steps // _SAID)
        for step, batch in zip(
            range(1, steps + 1), batches(texts, how.batch, how.seed), strict=False
        ):
            loss: Any = self.objective.loss(self.teacher, self.student, self._desk.inputs(batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(_number(loss, step, how))
            if step % every == 0 or step == steps:
                took = time.monotonic() - started
                progress(f"step {step} of {steps}: loss {losses[-1]:.4f}, {took:.0f} s")
        return losses

    def measured(self, texts: Sequence[str]) -> float:
        """The objective's measure, its mean over the texts."""
        import torch

        found: list[torch.Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(texts), _MEASURED):
                inputs = self._desk.inputs(texts[start : start + _MEASURED])
                found.append(self.objective.held_out(self.teacher, self.student, inputs))
        return round(float(torch.cat(found).mean()), 5)

    def compared(self, texts: Sequence[str], before: float) -> HeldOut:
        """For the manifest.

        Raises:
            UnusableModel: the student says no numbers.
        """
        after = self.measured(texts)
        if not math.isfinite(after):
            raise UnusableModel(
                f"STOKER_DISTILL made a student that says {after}; take a lower rate (rate=…)"
            )
        return HeldOut(measure=self.objective.measure, texts=len(texts), before=before, after=after)

    def _learning(self) -> list[torch.nn.Parameter]:
        """All but the table of tokens, of which a few texts show a few rows."""
        self.student.get_input_embeddings().requires_grad_(False)
        return [one for one in self.student.parameters() if one.requires_grad]


def _number(loss: torch.Tensor, step: int, how: Distillation) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UnusableModel(
            f"STOKER_DISTILL: the loss is {value} at step {step}; take a lower rate than "
            f"rate={how.rate:g}"
        )
    return value
