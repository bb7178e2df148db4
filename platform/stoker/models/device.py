"""What a model is prepared for and runs on, as far as recipes must know it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from stoker.nouns.device import SIMULATED_PREFIX
from stoker.nouns.errors import UnusableModel

BUILD_DEVICE = "STOKER_BUILD_DEVICE"
"""What the build step prepares for where it does not run on the worker's device: ``cpu``, or
``cuda:<compute capability>`` such as ``cuda:9.0``. Without it, what is seen here."""

_NAME = re.compile(r"cuda:(\d+)\.(\d+)")
_CPU_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of device.

    Attributes:
        kind: what torch calls it.
        capability: CUDA compute capability; (0, 0) for a CPU.
        bf16: whether it computes bfloat16 as fast as it should.
    """

    kind: Literal["cpu", "cuda"] = "cpu"
    capability: tuple[int, int] = (0, 0)
    bf16: bool = True

    def __str__(self) -> str:
        if self.kind == "cpu":
            return "cpu"
        return f"cuda:{self.capability[0]}.{self.capability[1]}"


def target(env: Mapping[str, str] | None = None) -> Target:
    """The device that this process prepares for, or runs on.

    Simulated devices compute on the CPU, and a card that nobody gave to this process is not its.

    Raises:
        UnusableModel: ``STOKER_BUILD_DEVICE`` cannot be read, or torch cannot use the card.
    """
    env = os.environ if env is None else env
    declared = env.get(BUILD_DEVICE, "").strip().lower()
    if declared:
        return _named(declared)
    visible = env.get("CUDA_VISIBLE_DEVICES", "").strip()
    if not visible or visible.startswith(SIMULATED_PREFIX) or visible == "-1":
        return cpu()
    return _card(visible)


@cache
def cpu() -> Target:
    """This machine's CPU."""
    return Target("cpu", bf16=bool(_CPU_BF16 & set(cpu_flags())))


def cpu_flags() -> tuple[str, ...]:
    """The instruction sets of this CPU, sorted."""
    flags = ""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except FileNotFoundError:
        flags = platform.processor()
    return tuple(sorted(flags.split()))


def _named(text: str) -> Target:
    if text == "cpu":
        return cpu()
    found = _NAME.fullmatch(text)
    if not found:
        raise UnusableModel(
            f"{BUILD_DEVICE} must be 'cpu' or 'cuda:<compute capability>' such as 'cuda:9.0', "
            f"was {text!r}"
        )
    return _cuda((int(found[1]), int(found[2])))


def _cuda(capability: tuple[int, int]) -> Target:
    return Target("cuda", capability, bf16=capability >= (8, 0))


def _card(visible: str) -> Target:
    """The first card that torch sees. Initialises CUDA: never in a process that will fork.

    Raises:
        UnusableModel: it sees none. On the CPU it would be slow, and nothing would say why.
    """
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = f"cannot use it: it was built for CUDA {built}" if built else "is built without CUDA"
        raise UnusableModel(
            f"this process was given the card {visible}, and torch {torch.__version__} {why}; "
            "install a torch that fits the driver, or ask for no GPU"
        )
    major, minor = torch.cuda.get_device_capability(0)
    return _cuda((major, minor))
