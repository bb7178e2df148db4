"""Sleep and wake on a real card: same answers, memory given back, the speed of the link.

Not tried on a card yet.
"""

from __future__ import annotations

import time
from copy import deepcopy as copy_module
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stoker.models.host_copy import HostCopy  # noqa: E402

pytestmark = pytest.mark.gpu

MIB = 1 << 20
CYCLES = 1000
LAYERS = 16


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4096, 4096, bias=False) for _ in range(LAYERS)]
    return torch.nn.Sequential(*layers).to("cuda", torch.bfloat16).eval()


def device_bytes() -> int:
    """Of this whole process, as the allocator has them from the driver."""
    return int(torch.cuda.memory_reserved())


@torch.inference_mode()
def test_a_thousand_cycles_change_no_bit_and_leak_nothing(module: torch.nn.Module) -> None:
    inputs = torch.randn(2, 4096, device="cuda", dtype=torch.bfloat16)
    before = module(inputs).cpu()
    copy = HostCopy(module)
    for _ in range(CYCLES):
        copy.sleep()
        copy.wake()
    assert torch.equal(module(inputs).cpu(), before)
    copy.sleep()
    assert device_bytes() <= 50 * MIB
    copy.wake()


def link_bytes_per_s(nbytes: int) -> float:
    """What the link gives a pinned copy of that size, the best of several."""
    host = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
    device = torch.empty(nbytes, dtype=torch.uint8, device="cuda")
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        device.copy_(host, non_blocking=True)
        torch.cuda.synchronize()
        best = max(best, nbytes / (time.perf_counter() - began))
    return best


def test_a_wake_copies_at_the_speed_of_the_link(module: torch.nn.Module) -> None:
    """A ratio of two copies of the same bytes on the same card, in one run."""
    copy = HostCopy(module)
    copy.sleep()
    best = 0.0
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        copy.wake()
        best = max(best, copy.nbytes / (time.perf_counter() - began))
        copy.sleep()
    copy.wake()
    assert best >= 0.85 * link_bytes_per_s(copy.nbytes)


@torch.inference_mode()
def test_two_sleepers_share_one_pinned_copy(module: torch.nn.Module, tmp_path: Path) -> None:
    """As two workers of one function do, each with the same weights on its own card."""
    twin = copy_module(module)
    inputs = torch.randn(2, 4096, device="cuda", dtype=torch.bfloat16)
    before = module(inputs).cpu()
    copies = [HostCopy(one, tmp_path, "twins") for one in (module, twin)]
    for copy in copies:
        copy.sleep()
    assert all(copy.shared for copy in copies)
    for copy in copies:
        copy.wake()
    assert torch.equal(module(inputs).cpu(), before)
    assert torch.equal(twin(inputs).cpu(), before)
