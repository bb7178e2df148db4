"""Rank 0's model: each call of its ``forward`` is made by all ranks at once."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stoker.models.parallel.crew import SETTLE_S, Crew
from stoker.models.parallel.group import in_step
from stoker.models.parallel.message import Message, encoded
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def mirrored(module: PreTrainedModel, number: int, crew: Crew, device: str) -> PreTrainedModel:
    """The module, whose ``forward`` from now on tells the peers first; changed in place.

    Args:
        module: this rank's part.
        number: by which the peers know theirs.
        crew: the peers, each of which has its part.
        device: of all of them, by torch's name of its kind.
    """
    own, calls = module.forward, _Calls(number, crew, device)

    @functools.wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        import torch

        calls.tell(args, kwargs)
        try:
            # As the peers do: which kernels a layer takes depends on it.
            with torch.inference_mode():
                return own(*args, **kwargs)
        except Exception as exc:
            calls.settle(exc)
            raise

    module.forward = forward
    return module


class _Calls:
    """What the peers are told of one module. Single writer: the thread that calls it."""

    def __init__(self, number: int, crew: Crew, device: str) -> None:
        self._number = number
        self._crew = crew
        self._device = device
        self._caches: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._made = 0
        self._dropped: list[int] = []
        """Caches that nobody holds here any more; the peers still hold theirs."""

    def tell(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = bytearray()
        document = {
            "op": "forward",
            "module": self._number,
            "args": encoded(list(args), tensors, self._cache),
            "kwargs": encoded(kwargs, tensors, self._cache),
            "drop": self._dropped[:],
        }
        del self._dropped[: len(document["drop"])]
        self._crew.tell(Message(document, tensors))

    def settle(self, exc: Exception) -> None:
        """After a failure here: goes on only if every rank failed at the same point.

        One that failed alone leaves the others waiting within a layer, and the next call would be
        added to what is left of this one.
        """
        self._crew.tell(Message({"op": "settle"}))
        if self._crew.hear(SETTLE_S) is None:
            self._crew.abandon(f"this rank failed alone: {type(exc).__name__}: {exc}")
        try:
            together = in_step(self._crew.size, self._device)
        except RuntimeError as broken:
            self._crew.abandon(f"the ranks do not meet any more: {broken}")
        if not together:
            self._crew.abandon("the ranks are out of step")

    def _cache(self, value: Any) -> int | None:
        from transformers import DynamicCache

        if type(value) is not DynamicCache:
            return None
        known = self._caches.get(value)
        if known is not None:
            return known
        if value.get_seq_length():
            raise UnusableModel("a key-value cache that another call made cannot be gone on with")
        self._made += 1
        number = self._caches[value] = self._made
        weakref.finalize(value, self._dropped.append, number)
        value.reorder_cache = self._reordering(value, number)
        return number

    def _reordering(self, value: Any, number: int) -> Callable[[Any], None]:
        """What chooses a cache's rows, on all ranks: else theirs would keep the texts that ended.

        It is an attribute of the cache, which must not hold itself for ever.
        """
        held, own = weakref.ref(value), type(value).reorder_cache

        def reorder(rows: Any) -> None:
            told = {
                "op": "reorder", "module": self._number, "cache": number, "rows": rows.tolist(),
            }  # fmt: skip
            self._crew.tell(Message(told))
            own(held(), rows)

        return reorder
