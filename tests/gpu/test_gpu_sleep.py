"""Weights that leave a real card and come back: the speed of the link, one copy for two.

A thousand cycles of it are in test_gpu_worker.py, those of quantized models in test_gpu_methods.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from real_card import REAL, TORCH, Card, Measured  # noqa: E402
from stoker.models.host_copy import HostCopy  # noqa: E402
from stoker.models.staging import SHARED_MEMORY  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.models, pytest.mark.timeout(240)]

SIDE, LAYERS = (8192, 32) if REAL else (256, 4)
"""4 GiB: beside their copy, taking the memory of 32 layers from the driver weighs little."""
SHARE = 0.85
"""Of what the link gives, a wake's at least."""


def stack(side: int, layers: int) -> torch.nn.Module:
    torch.manual_seed(0)
    made = [torch.nn.Linear(side, side, bias=False, device=TORCH) for _ in range(layers)]
    return torch.nn.Sequential(*made).to(torch.bfloat16).eval()


@pytest.fixture
def given_back(cards: tuple[Card, ...]) -> Iterator[None]:
    """What this process took of the card goes back, for the tests that look at all of it."""
    yield
    if REAL:
        torch.cuda.empty_cache()


def settled() -> None:
    if REAL:
        torch.cuda.synchronize()


def link_bytes_per_s(nbytes: int) -> float:
    """What the link gives one copy of so many bytes, pinned on a card, the best of several."""
    host = torch.empty(nbytes, dtype=torch.uint8, pin_memory=REAL)
    device = torch.empty(nbytes, dtype=torch.uint8, device=TORCH)
    best = 0.0
    for _ in range(5):
        settled()
        began = time.perf_counter()
        device.copy_(host, non_blocking=True)
        settled()
        best = max(best, nbytes / (time.perf_counter() - began))
    return best


@torch.inference_mode()
def test_a_wake_copies_at_the_speed_of_the_link(given_back: None, measured: Measured) -> None:
    """A ratio of two copies of the same bytes on the same card, in one run."""
    module = stack(SIDE, LAYERS)
    before = module[-1].weight.cpu().clone()
    copy = HostCopy(module)
    copy.sleep()
    best = 0.0
    for _ in range(5):
        settled()
        began = time.perf_counter()
        copy.wake()
        best = max(best, copy.nbytes / (time.perf_counter() - began))
        copy.sleep()
    copy.wake()
    link = link_bytes_per_s(copy.nbytes)
    measured(bytes=copy.nbytes, wake_bytes_per_s=round(best), link_bytes_per_s=round(link))
    assert torch.equal(module[-1].weight.cpu(), before)
    if REAL:
        assert best >= SHARE * link


@torch.inference_mode()
def test_two_sleepers_share_one_pinned_copy(given_back: None, tmp_path: Path) -> None:
    """As two workers of one function do, each with the same weights on its own card."""
    module = stack(SIDE // 2, 8)
    twin = deepcopy(module)
    inputs = torch.randn(2, SIDE // 2, device=TORCH, dtype=torch.bfloat16)
    before = module(inputs).cpu()
    copies = [HostCopy(one, tmp_path, "twins") for one in (module, twin)]
    room = os.statvfs(SHARED_MEMORY)
    if room.f_bavail * room.f_frsize < 2 * copies[0].nbytes:
        pytest.skip(f"{SHARED_MEMORY} has no room for a copy of {copies[0].nbytes} bytes")
    for copy in copies:
        copy.sleep()
    assert all(copy.shared for copy in copies)
    for copy in copies:
        copy.wake()
    assert torch.equal(module(inputs).cpu(), before)
    assert torch.equal(twin(inputs).cpu(), before)
