"""Which loaded models can leave their device."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from stoker.models import resting  # noqa: E402
from stoker.sdk.sleep import Sleepers  # noqa: E402

pytestmark = pytest.mark.models


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch) -> Sleepers:
    made = Sleepers()
    monkeypatch.setattr(resting, "SLEEPERS", made)
    return made


def test_a_model_on_the_cpu_has_no_device_to_leave(sleepers: Sleepers) -> None:
    resting.leaves_its_card(torch.nn.Linear(2, 2), "key")
    resting.leaves_a_simulated_card({"CUDA_VISIBLE_DEVICES": ""})
    assert not sleepers


def test_a_model_pinned_to_a_simulated_card_leaves_its_bytes_in_the_ledger(
    sleepers: Sleepers,
) -> None:
    resting.leaves_a_simulated_card({"CUDA_VISIBLE_DEVICES": "SIM-1"})
    assert sleepers
    sleepers.sleep()
    sleepers.wake()
