"""Running within the memory there is: one retry at half the batch, then an error with the bytes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psutil

from stoker.models import held
from stoker.models.held import bytes_wanted
from stoker.models.lost import end_if_lost
from stoker.models.tasks.steps import Steps, at_once
from stoker.nouns.errors import InsufficientStorage
from stoker.nouns.quantity import format_bytes

Item = TypeVar("Item")
Forward = Callable[[Sequence[Any]], list[Any]]
ForwardInSteps = Callable[[Sequence[Any]], Steps[list[Any]]]


def attempt(forward: Forward, items: Sequence[Any]) -> list[Any]:
    """`attempt_in_steps`, of what has one step."""

    def one_step(part: Sequence[Any]) -> Steps[list[Any]]:
        yield from ()
        return forward(part)

    return at_once(attempt_in_steps(one_step, items))


def attempt_in_steps(forward: ForwardInSteps, items: Sequence[Any]) -> Steps[list[Any]]:
    """The results of a batch; an exception in the place of each that failed.

    Out of memory: what is cached is given back and the two halves are tried, once. Any other
    failure: each item is tried alone, so that one never fails its neighbours. Models change
    nothing, so running them again is safe.
    """
    failure = yield from _try(forward, items)
    if isinstance(failure, list):
        return failure
    if not is_out_of_memory(failure):
        if len(items) == 1:
            return [failure]
        return (yield from _settled_each(forward, [[item] for item in items], len(items)))
    _release(failure)
    half = (len(items) + 1) // 2
    parts = [part for part in (items[:half], items[half:]) if part]
    results = yield from _settled_each(forward, parts, len(items))
    _note(results)
    return results


def _note(results: Sequence[Any]) -> None:
    """What was too much at half the batch as well is remembered: once, however many it fails."""
    causes = [one.__cause__ for one in results if isinstance(one, InsufficientStorage)]
    known = [cause for cause in causes if cause is not None]
    if known:
        held.note_shortage(max(known, key=lambda cause: bytes_wanted(cause) or 0))


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether an exception means that memory ran out, of a device or of the host."""
    if isinstance(exc, MemoryError) or held.is_shortage(exc):
        return True
    text = str(exc)
    return isinstance(exc, RuntimeError) and (
        "DefaultCPUAllocator: can't allocate" in text
        or "DefaultCPUAllocator: not enough memory" in text
    )


def _try(forward: ForwardInSteps, items: Sequence[Any]) -> Steps[list[Any] | Exception]:
    try:
        return (yield from forward(items))
    except Exception as exc:
        end_if_lost(exc)
        # What the frames hold is the memory that the retry needs.
        return exc.with_traceback(None) if is_out_of_memory(exc) else exc


def _settled_each(
    forward: ForwardInSteps, parts: Sequence[Sequence[Any]], tried: int
) -> Steps[list[Any]]:
    results: list[Any] = []
    for part in parts:
        results += yield from _settled(forward, part, tried)
    return results


def _settled(forward: ForwardInSteps, items: Sequence[Any], tried: int) -> Steps[list[Any]]:
    outcome = yield from _try(forward, items)
    if isinstance(outcome, list):
        return outcome
    if is_out_of_memory(outcome):
        _release(outcome)
        return [refusal(outcome, tried, len(items)) for _ in items]
    return [outcome for _ in items]


def refusal(exc: BaseException, tried: int, half: int) -> InsufficientStorage:
    """The error of a request for which there is not enough memory."""
    wanted, free = bytes_wanted(exc), _free()
    lacking = f"an allocation of {wanted} bytes ({format_bytes(wanted)}) failed" if wanted else ""
    detail = {} if wanted is None else {"bytes_wanted": wanted}
    error = InsufficientStorage(
        f"out of memory with a batch of {tried} and again with {half}: "
        f"{lacking or 'an allocation failed'}, {free} bytes ({format_bytes(free)}) are free; send "
        "shorter or fewer inputs at once, or give the function more memory",
        bytes_free=free,
        **detail,
    )
    error.__cause__ = exc
    return error


def _free() -> int:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _release(exc: BaseException) -> None:
    exc.__traceback__ = exc.__context__ = None
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
