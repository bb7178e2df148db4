"""What a worker says it has held of its devices."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from stoker.models import held


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_loaded", {})


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
