"""A module's weights in host memory while it sleeps, and their way back to the device.

The device's storages are emptied in place, so every reference to a parameter stays what it was:
views, tied weights and captured graphs see the same tensors before and after. The host copy is
pinned, so that it comes back at the speed of the link, and it is made once: weights that serve do
not change, so only the first sleep copies anything down. Workers that hold the same weights share
one copy (`stoker.models.staging`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.staging import PAGE, Staging, staging, sweep

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_CHUNK = 64 * 1024**2
"""Bytes compared at a time: bounds the host memory that the comparison takes."""


@dataclass(slots=True)
class _Held:
    """One storage of the module, through a flat view of all its bytes."""

    flat: torch.Tensor
    nbytes: int
    host: torch.Tensor | None = None


class HostCopy:
    """Takes one module off its device and brings it back, bit for bit.

    Single writer: the worker's thread, while nothing runs on the module.

    Args:
        module: all of whose tensors leave and come back.
        home: workers of this home that name the same weights share their host copy. None: a copy
            of its own.
        name: of the weights, such as the key of their checkpoint.
    """

    def __init__(self, module: torch.nn.Module, home: Path | None = None, name: str = "") -> None:
        self._held = [_held(tensor) for tensor in _storages(module)]
        self._asleep = False
        self._home, self._name = home, name
        self._staging: Staging | None = None

    @property
    def shared(self) -> bool:
        """Whether its host copy is one that other workers use too."""
        return self._staging is not None

    @property
    def nbytes(self) -> int:
        """Bytes that leave the device."""
        return sum(held.nbytes for held in self._held)

    def sleep(self) -> None:
        """Gives the device's memory back. Nothing, if it sleeps already."""
        import torch

        if self._asleep:
            return
        if any(held.host is None for held in self._held):
            self._copy_down()
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

    def _copy_down(self) -> None:
        import torch

        if self._home is not None and self._share(self._home):
            return
        for held in self._held:
            pinned = held.flat.is_cuda
            held.host = torch.empty(held.nbytes, dtype=torch.uint8, pin_memory=pinned)
            held.host.copy_(held.flat, non_blocking=True)
        _settle(self._held)

    def _share(self, home: Path) -> bool:
        """Puts the copy where others find it, or takes theirs; False where a private one must do.

        Theirs is compared to the last byte before it is trusted: an adapter or a mistake in a name
        would otherwise come back as somebody else's weights.
        """
        sweep(home)
        found = staging(home, self._name, sum(_padded(held.nbytes) for held in self._held))
        if found is None:
            return False
        views = list(_views(found, self._held))
        if not found.filled:
            for held, view in zip(self._held, views, strict=True):
                view.copy_(held.flat)
            found.publish()
        elif not all(_equal(held.flat, view) for held, view in zip(self._held, views, strict=True)):
            log.warning("weights named %s differ from those that another worker keeps", self._name)
            del views
            found.abandon()
            return False
        if any(held.flat.is_cuda for held in self._held):
            _pin(found)
        for held, view in zip(self._held, views, strict=True):
            held.host = view
        self._staging = found
        return True


def _padded(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def _views(found: Staging, held: list[_Held]) -> Iterator[torch.Tensor]:
    """The place of each storage in the shared memory, in order, after its first page."""
    import torch

    offset = PAGE
    for one in held:
        yield torch.frombuffer(found.map, dtype=torch.uint8, count=one.nbytes, offset=offset)
        offset += _padded(one.nbytes)


def _equal(flat: torch.Tensor, view: torch.Tensor) -> bool:
    import torch

    return all(
        torch.equal(flat[start : start + _CHUNK].cpu(), view[start : start + _CHUNK])
        for start in range(0, len(view), _CHUNK)
    )


def _pin(found: Staging) -> None:
    """Has the link's engine read the shared memory directly; without it waking is only slower."""
    import torch

    whole = torch.frombuffer(found.map, dtype=torch.uint8)
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    status = runtime.cudaHostRegister(whole.data_ptr(), whole.nbytes, 0)
    if int(status) != 0:
        log.warning("the host copy of the weights could not be pinned (CUDA error %s)", status)
        # The runtime keeps the error until it is asked, and torch asks after every kernel: the next
        # one, some request's, would be blamed for it.
        with contextlib.suppress(RuntimeError):
            torch.ones(1, device="cuda")


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
