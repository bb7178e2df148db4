"""What a worker says it has held of its devices."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from stoker.models import held
from stoker.models.tasks.memory import attempt


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_loaded", {})
    monkeypatch.setattr(held, "SHORTAGES", held.Shortages())


def test_on_a_simulated_card_it_is_what_was_loaded() -> None:
    held.note("a", 5)
    held.note("b", 7)
    held.note("a", 5)
    assert held.device_peak({"CUDA_VISIBLE_DEVICES": "SIM-0"}) == 12


def test_without_a_device_nothing_is_held_of_one() -> None:
    held.note("a", 5)
    assert held.device_peak({"CUDA_VISIBLE_DEVICES": ""}) == 0


@pytest.mark.parametrize(("started", "peak"), [(True, 30), (False, 0)])
def test_on_a_card_it_is_the_allocators_peak_and_asking_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, started: bool, peak: int
) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: started,
        device_count=lambda: 2,
        max_memory_reserved=lambda index: 10 + 10 * index,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert held.device_peak({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}) == peak


def out_of_memory(gib: float) -> Exception:
    torch = pytest.importorskip("torch")
    error: Exception = torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {gib} GiB.")
    return error


def test_what_was_held_and_what_was_missing_is_what_would_have_been_needed() -> None:
    told: list[int] = []
    held.SHORTAGES.listener = lambda: told.append(held.SHORTAGES.times)
    held.note("weights", 1 << 30)
    held.note_shortage(out_of_memory(2.0), {"CUDA_VISIBLE_DEVICES": "SIM-0"})
    held.note_shortage(out_of_memory(0.5), {"CUDA_VISIBLE_DEVICES": "SIM-0"})
    assert (held.SHORTAGES.times, held.SHORTAGES.needed) == (2, 3 << 30)
    assert told == [1, 2]


@pytest.mark.parametrize(
    ("error", "devices"),
    [
        (MemoryError(), "SIM-0"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "SIM-0"),
        (None, ""),
    ],
)
def test_the_hosts_memory_is_no_devices(error: Exception | None, devices: str) -> None:
    held.note_shortage(error or out_of_memory(1.0), {"CUDA_VISIBLE_DEVICES": devices})
    assert held.SHORTAGES.times == 0


def test_a_batch_that_fails_by_both_halves_is_one_shortage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "SIM-0")
    failure = out_of_memory(2.0)

    def forward(_items: Sequence[str]) -> list[str]:
        raise failure

    assert len(attempt(forward, ["a", "b", "c", "d"])) == 4
    assert (held.SHORTAGES.times, held.SHORTAGES.needed) == (1, 2 << 30)


def test_a_batch_that_is_served_by_halves_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "SIM-0")
    failure = out_of_memory(2.0)

    def forward(items: Sequence[str]) -> list[str]:
        if len(items) > 2:
            raise failure
        return list(items)

    assert attempt(forward, ["a", "b", "c", "d"]) == ["a", "b", "c", "d"]
    assert held.SHORTAGES.times == 0


def test_of_a_split_model_every_rank_has_as_much_on_its_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 1, max_memory_reserved=lambda _: 10
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(held, "_ranks", 1)
    held.split_over(3)
    assert held.device_peak({"CUDA_VISIBLE_DEVICES": "GPU-a"}) == 30
