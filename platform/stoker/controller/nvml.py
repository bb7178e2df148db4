"""NVIDIA's management library: the only module that speaks it, and turns its errors into ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pynvml

from stoker.controller.visible import visible
from stoker.nouns.device import Device, DeviceKind, DeviceLost, DevicesUnknown, DeviceUse

_LOST = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_NOT_FOUND,
        # What drivers answer in practice for a card that fell off the bus.
        pynvml.NVML_ERROR_UNKNOWN,
    }
)
_NOT_TOLD = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    }
)

Cards = dict[int, tuple[str, tuple[Device, ...]]]


class Nvml:
    """`stoker.controller.devices.Driver` over real cards. Untried on more than the fakes of tests.

    To be used by one thread at a time.

    Args:
        shown: ``CUDA_VISIBLE_DEVICES`` of whoever started the platform.
    """

    def __init__(self, shown: str | None) -> None:
        self._shown = shown
        self._begun = False
        self._all_there = True
        """False: a card was missed, and only a library that begins anew would see it again."""
        self._handles: dict[str, Any] = {}

    def list(self) -> tuple[Device, ...]:
        """The cards and the MIG instances; a card in MIG mode is none itself.

        Raises:
            DevicesUnknown: the driver does not answer.
        """
        try:
            if not self._begin():
                return ()
            return visible(self._cards(), self._shown, all_there=self._all_there)
        except pynvml.NVMLError as exc:
            raise DevicesUnknown(f"the NVIDIA driver does not answer: {exc}") from exc

    def use(self, device: str) -> DeviceUse:
        """Memory, processes, utilisation.

        Raises:
            DeviceLost: it is there no more.
            DevicesUnknown: the driver does not answer.
        """
        handle = self._handles.get(device)
        if handle is None:
            raise DeviceLost(f"there is no device {device}")
        try:
            return DeviceUse(
                used_bytes=int(_memory(handle).used),
                by_session=_by_session(handle),
                utilisation=_utilisation(handle),
            )
        except pynvml.NVMLError as exc:
            if exc.value in _LOST:
                self._all_there = False
                raise DeviceLost(f"{device} is lost: {exc}") from exc
            raise DevicesUnknown(f"the driver does not tell of {device}: {exc}") from exc

    def _begin(self) -> bool:
        """Opens the library; False when this machine has none, and so no card."""
        if self._begun and not self._all_there:
            self._begun = False
            pynvml.nvmlShutdown()
        if not self._begun:
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as exc:
                if exc.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
                    return False
                raise
            self._begun = True
        return True

    def _cards(self) -> Cards:
        cards: Cards = {}
        self._handles, self._all_there = {}, True
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
                cards[index] = uuid, tuple(self._devices(handle, uuid))
            except pynvml.NVMLError as exc:
                if exc.value in _LOST:
                    self._all_there = False
                elif exc.value not in _NOT_TOLD:
                    raise
                # A card that we may not look at is not ours to use.
        return cards

    def _devices(self, card: Any, uuid: str) -> Iterator[Device]:
        """The card, or its instances when it is in MIG mode."""
        capability = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(card))
        if not _is_split(card):
            yield self._device(card, uuid, DeviceKind.CUDA, capability)
            return
        for handle in _instances(card):
            own = _text(pynvml.nvmlDeviceGetUUID(handle))
            yield self._device(handle, own, DeviceKind.MIG, capability, uuid)

    def _device(
        self, handle: Any, uuid: str, kind: DeviceKind, capability: Any, parent: str = ""
    ) -> Device:
        memory = _memory(handle)
        name = _text(pynvml.nvmlDeviceGetName(handle))
        self._handles[uuid] = handle
        usable = int(memory.total) - int(getattr(memory, "reserved", 0))
        return Device(uuid, kind, usable, name, capability, parent)


def _is_split(card: Any) -> bool:
    try:
        now, _after_reset = pynvml.nvmlDeviceGetMigMode(card)
    except pynvml.NVMLError as exc:
        if exc.value in _NOT_TOLD:
            return False
        raise
    return bool(now == pynvml.NVML_DEVICE_MIG_ENABLE)


def _instances(card: Any) -> Iterator[Any]:
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index)
        except pynvml.NVMLError as exc:
            # The places for instances are numbered; most are empty.
            if exc.value != pynvml.NVML_ERROR_NOT_FOUND:
                raise


def _memory(handle: Any) -> Any:
    """The second version tells apart what the driver keeps for itself; old drivers lack it."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError as exc:
        if exc.value not in _NOT_TOLD:
            raise
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _by_session(handle: Any) -> tuple[tuple[int, int], ...]:
    held: dict[int, int] = {}
    for process in _processes(handle):
        # A process may stand in both lists, with the same bytes.
        held[process.pid] = max(held.get(process.pid, 0), process.usedGpuMemory or 0)
    sessions: dict[int, int] = {}
    for pid, count in held.items():
        leader = _session(pid)
        if leader is not None and count:
            sessions[leader] = sessions.get(leader, 0) + count
    return tuple(sorted(sessions.items()))


def _processes(handle: Any) -> Iterator[Any]:
    for tell in (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
    ):
        try:
            yield from tell(handle)
        except pynvml.NVMLError as exc:
            if exc.value not in _NOT_TOLD:
                raise


def _session(pid: int) -> int | None:
    """The leader of the process's session; None when the process cannot be seen from here."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _utilisation(handle: Any) -> float | None:
    try:
        return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    except pynvml.NVMLError as exc:
        if exc.value not in _NOT_TOLD:
            raise
        return None


def _text(told: str | bytes) -> str:
    return told.decode() if isinstance(told, bytes) else told
