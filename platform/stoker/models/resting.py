"""How a loaded model leaves its device and comes back, said to the worker that may ask for it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stoker.nouns.device import SIMULATED_PREFIX
from stoker.nouns.home import Home
from stoker.sdk.sleep import SLEEPERS

if TYPE_CHECKING:
    import torch


def leaves_its_card(module: torch.nn.Module, name: str) -> None:
    """Registers a module all of whose weights are on cards; others have their place already.

    Workers whose weights have the same ``name`` share one host copy of them.
    """
    from stoker.models.host_copy import HostCopy

    tensors = list(itertools.chain(module.parameters(), module.buffers()))
    if tensors and all(tensor.is_cuda for tensor in tensors):
        copy = HostCopy(module, Home.at(os.environ.get("STOKER_HOME")).root, name)
        SLEEPERS.add(copy.sleep, copy.wake)


def leaves_a_simulated_card(env: Mapping[str, str]) -> None:
    """On a simulated device only the ledger's bytes leave: the model computes on the CPU."""
    if env.get("CUDA_VISIBLE_DEVICES", "").startswith(SIMULATED_PREFIX):
        SLEEPERS.add(_nothing, _nothing)


def _nothing() -> None:
    """There is nothing to copy."""
