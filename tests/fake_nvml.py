"""NVIDIA's library as a fake of its Python module: as many cards as a test puts into it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 2**30


def error(code: int) -> Exception:
    made: Exception = pynvml.NVMLError(code)
    return made


@dataclass
class Card:
    """A card, or a MIG instance. ``processes``: bytes by pid. ``fails``: the code of every call."""

    uuid: str
    total: int = 80 * GIB
    reserved: int = GIB // 2
    used: int = 0
    name: str = "NVIDIA H100"
    busy: int | None = 0
    processes: dict[int, int | None] = field(default_factory=dict)
    drawing: dict[int, int | None] = field(default_factory=dict)
    instances: list[Card | None] | None = None
    fails: int = 0

    def ask(self) -> Card:
        if self.fails:
            raise error(self.fails)
        return self


class FakeNvml:
    """What `stoker.controller.nvml` uses of the module; its constants and errors are the real."""

    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.init_fails = 0
        self.inits = 0
        self.hidden_until_init: set[str] = set()
        self.old_driver = False
        self.processes_fail = 0

    def __getattr__(self, name: str) -> Any:
        assert name.startswith(("NVML_", "NVMLError", "nvmlMemory")), f"{name} is not faked"
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:  # noqa: N802
        self.inits += 1
        if self.init_fails:
            raise error(self.init_fails)
        self.hidden_until_init.clear()

    def nvmlShutdown(self) -> None:  # noqa: N802
        assert self.inits

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        card = self.cards[index].ask()
        if card.uuid in self.hidden_until_init:
            raise error(pynvml.NVML_ERROR_GPU_IS_LOST)
        return card

    def nvmlDeviceGetUUID(self, card: Card) -> str:  # noqa: N802
        return card.ask().uuid

    def nvmlDeviceGetName(self, card: Card) -> str:  # noqa: N802
        return card.ask().name

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> tuple[int, int]:  # noqa: N802
        card.ask()
        return 9, 0

    def nvmlDeviceGetMemoryInfo(self, card: Card, version: int | None = None) -> Any:  # noqa: N802
        card.ask()
        if version is None:
            return SimpleNamespace(total=card.total, used=card.used + card.reserved)
        if self.old_driver:
            raise error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return SimpleNamespace(total=card.total, reserved=card.reserved, used=card.used)

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:  # noqa: N802
        if card.ask().instances is None:
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:  # noqa: N802
        return len(card.instances or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:  # noqa: N802
        found = (card.instances or [])[index]
        if found is None:
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return found.ask()

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Any]:  # noqa: N802
        return self._processes(card.ask().processes)

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[Any]:  # noqa: N802
        return self._processes(card.ask().drawing)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> Any:  # noqa: N802
        if card.ask().busy is None:
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=card.busy)

    def _processes(self, held: dict[int, int | None]) -> list[Any]:
        if self.processes_fail:
            raise error(self.processes_fail)
        return [SimpleNamespace(pid=pid, usedGpuMemory=count) for pid, count in held.items()]


OWN_SESSION = os.getsid(0)
NOBODY = 2**22 + 1
"""A pid that no process of this machine can have."""
