"""A module's weights in host memory while it sleeps, and their way back to the device.

The device's storages are emptied in place, so every reference to a parameter stays what it was:
views, tied weights and captured graphs see the same tensors before and after. The host copy is
pinned, so that it comes back at the speed of the link, and it is made once: weights that serve do
not change, so only the first sleep copies anything down.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class _Held:
    """One storage of the module, through a flat view of all its bytes."""

    flat: torch.Tensor
    nbytes: int
    host: torch.Tensor | None = None


class HostCopy:
    """Takes one module off its device and brings it back, bit for bit.

    Single writer: the worker's thread, while nothing runs on the module.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._held = [_held(tensor) for tensor in _storages(module)]
        self._asleep = False

    @property
    def nbytes(self) -> int:
        """Bytes that leave the device."""
        return sum(held.nbytes for held in self._held)

    def sleep(self) -> None:
        """Gives the device's memory back. Nothing, if it sleeps already."""
        import torch

        if self._asleep:
            return
        for held in self._held:
            if held.host is None:
                pinned = held.flat.is_cuda
                held.host = torch.empty(held.nbytes, dtype=torch.uint8, pin_memory=pinned)
                held.host.copy_(held.flat, non_blocking=True)
        _settle(self._held)
        for held in self._held:
            held.flat.untyped_storage().resize_(0)
        self._asleep = True
        if any(held.flat.is_cuda for held in self._held):
            # Else the allocator would keep the blocks, and no other process could have them.
            torch.cuda.empty_cache()

    def wake(self) -> None:
        """Takes the device's memory again and fills it. Nothing, if it is awake.

        Raises:
            torch.OutOfMemoryError: the device has no room; what came back stays, and ``wake`` may
                be tried again.
        """
        if not self._asleep:
            return
        for held in self._held:
            storage = held.flat.untyped_storage()
            if storage.nbytes() != held.nbytes:
                storage.resize_(held.nbytes)
            if held.host is not None:
                held.flat.copy_(held.host, non_blocking=True)
        _settle(self._held)
        self._asleep = False


def _storages(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    """One tensor for each storage; tied weights and views share one."""
    seen: set[int] = set()
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        for plain in _plain(tensor):
            storage = plain.untyped_storage()
            # The object's own address: an empty storage has none for its data.
            if storage.nbytes() and storage._cdata not in seen:
                seen.add(storage._cdata)
                yield plain


def _plain(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a quantized or a split one is made of; itself, for a plain one."""
    import torch

    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
        return
    for name in flatten()[0]:
        part = getattr(tensor, name)
        if isinstance(part, torch.Tensor):  # a split one names its mesh as well
            yield from _plain(part)


def _held(tensor: torch.Tensor) -> _Held:
    import torch

    storage = tensor.untyped_storage()
    flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    flat.set_(storage, 0, (storage.nbytes(),), (1,))
    return _Held(flat, storage.nbytes())


def _settle(held: list[_Held]) -> None:
    """Waits for copies that are under way."""
    import torch

    for device in {one.flat.device for one in held if one.flat.is_cuda}:
        torch.cuda.synchronize(device)
