"""Randomness of a request's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Dice:
    """A source of randomness of its own, when a seed is given: others' are left as they were."""

    def __init__(self, seed: int | None, device: torch.device) -> None:
        self._seed = seed
        self._state: Any = None
        self._devices = [device] if device.type == "cuda" else []

    @contextmanager
    def rolled(self) -> Iterator[None]:
        """Within it torch draws from here, going on from where the last use ended."""
        import torch

        if self._seed is None:
            yield
            return
        with torch.random.fork_rng(devices=self._devices):
            if self._state is None:
                torch.manual_seed(self._seed)
            else:
                self._restore()
            yield
            self._state = (
                torch.get_rng_state(),
                [torch.cuda.get_rng_state(device) for device in self._devices],
            )

    def _restore(self) -> None:
        import torch

        own, cards = self._state
        torch.set_rng_state(own)
        for device, state in zip(self._devices, cards, strict=True):
            torch.cuda.set_rng_state(state, device)
