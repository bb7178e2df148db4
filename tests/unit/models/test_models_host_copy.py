"""Weights that leave the device and come back, on tensors of the CPU, which are emptied alike."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from stoker.models import host_copy  # noqa: E402
from stoker.models.host_copy import HostCopy  # noqa: E402

pytestmark = pytest.mark.models


class Tied(torch.nn.Module):
    """Two layers, an embedding whose weights are the output's too, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(11, 4)
        self.layer = torch.nn.Linear(4, 4)
        self.out = torch.nn.Linear(4, 11, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor([2.0, 3.0, 5.0, 7.0]))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.layer(self.embed(ids)) * self.scale)


IDS = torch.arange(11)


def on_device(module: torch.nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_its_memory_is_given_back_and_its_answers_are_the_same_to_the_bit() -> None:
    module = Tied()
    with torch.inference_mode():
        before = module(IDS)
        copy = HostCopy(module)
        for _ in range(3):
            copy.sleep()
            assert on_device(module) == 0
            copy.wake()
            assert torch.equal(module(IDS), before)


def test_tied_weights_travel_once_and_stay_tied() -> None:
    module = Tied()
    copy = HostCopy(module)
    floats = 11 * 4 + 4 * 4 + 4 + 4
    assert copy.nbytes == 4 * floats
    copy.sleep()
    copy.wake()
    assert module.out.weight.data_ptr() == module.embed.weight.data_ptr()


def test_twice_asleep_is_asleep_and_twice_awake_is_awake() -> None:
    module = Tied()
    before = module.layer.weight.clone()
    copy = HostCopy(module)
    copy.wake()
    copy.sleep()
    copy.sleep()
    copy.wake()
    copy.wake()
    assert torch.equal(module.layer.weight, before)


def test_the_parts_of_quantized_weights_travel_too() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)).bfloat16()
    quantization.quantize_(module, quantization.Int8WeightOnlyConfig(version=2))
    ids = torch.ones(2, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        before = module(ids)
        copy = HostCopy(module)
        assert copy.nbytes >= 2 * 64 * 64
        copy.sleep()
        copy.wake()
        assert torch.equal(module(ids), before)


def test_memory_that_cannot_be_pinned_is_no_later_request_s_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """CUDA keeps what it refused until somebody asks, and torch asks after each kernel."""
    kept = [2]

    def kernel(*_: object, **__: object) -> None:
        if kept and kept.pop():
            raise RuntimeError("CUDA error: out of memory")

    runtime = SimpleNamespace(cudaHostRegister=lambda _at, _bytes, _flags: kept[0])
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    monkeypatch.setattr(torch, "ones", kernel)
    host_copy._pin(SimpleNamespace(map=bytearray(64)))
    assert "could not be pinned (CUDA error 2)" in caplog.text
    kernel()
