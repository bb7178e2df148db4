"""What a worker will take of its devices, before anybody has seen it run."""

from __future__ import annotations

from dataclasses import dataclass

from stoker.decide.fit import bytes_per_gpu, workers_on_each
from stoker.nouns.quantity import format_bytes

ACTIVATIONS_SHARE = 0.25
"""Of the weights: what one pass holds beside them. A generous guess until it was measured: too
little means a worker that dies of it, too much a card that is not quite full."""
LEAST_ACTIVATIONS = 256 << 20
CONTEXT_BYTES = 512 << 20
"""What CUDA takes of a card for each process that uses it, before any tensor and asleep too. A
simulated card takes none, unless it is declared to (``sim:1x16GiB+512MiB``)."""
MEASURED_MARGIN = 1.1
"""Over the largest peak that was seen: the next input may be a little longer."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of one worker.

    Attributes:
        weights: of its own copy of the model, as prepared.
        activations: what it computes with; with ``measured`` both together, as they were seen.
        context: on each device that it uses.
        cache: keys and values of all tokens that it may have in hand at once. Counted beside what
            was measured: a worker that has served short texts may be sent a long one.
    """

    weights: int
    activations: int
    context: int
    measured: int = 0
    cache: int = 0

    @classmethod
    def of(cls, weights: int, *, measured: int, context: int, cache: int = 0) -> Estimate:
        """From the bytes of the prepared weights and the largest peak seen so far (0: none).

        >>> Estimate.of(4 << 30, measured=0, context=0).each(workers=2, gpus=1) >> 30
        10
        """
        activations = max(LEAST_ACTIVATIONS, int(weights * ACTIVATIONS_SHARE))
        return cls(weights, activations, context, measured, cache)

    @property
    def worker(self) -> int:
        """Of one worker without its contexts."""
        if self._is_measured:
            return int(self.measured * MEASURED_MARGIN)
        return self.weights + self.cache + (0 if self.measured else self.activations)

    @property
    def _is_measured(self) -> bool:
        return self.measured * MEASURED_MARGIN > self.weights + self.cache

    def each(self, workers: int, gpus: int) -> int:
        """Of a replica on each of its GPUs."""
        return bytes_per_gpu(self.worker, workers, gpus) + self.context * workers_on_each(
            workers, gpus
        )

    def arithmetic(self, workers: int, gpus: int) -> str:
        """The sum in words, for whoever is refused.

        >>> Estimate.of(4 << 30, measured=0, context=0).arithmetic(1, 1)
        '1 worker on a GPU x (weights 4.0 GiB + activations 1.0 GiB) = 5.0 GiB'
        """
        parts = f"weights {format_bytes(self.weights)}"
        if self.cache:
            parts += f" + key-value cache {format_bytes(self.cache)}"
        if not self.measured:
            parts += f" + activations {format_bytes(self.activations)}"
        if self._is_measured:
            parts = f"measured {format_bytes(self.measured)} x {MEASURED_MARGIN:g}"
        if self.context:
            parts += f" + context {format_bytes(self.context)}"
        there, spread = workers_on_each(workers, gpus), gpus // workers
        over = f", spread over {spread} GPUs" if spread > 1 else ""
        who = f"{there} worker{'s' if there > 1 else ''} on a GPU"
        return f"{who} x ({parts}){over} = {format_bytes(self.each(workers, gpus))}"
