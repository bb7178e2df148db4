"""The ledger: which bytes of which device are promised to which replica."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.decide.fit import bytes_per_gpu
from stoker.decide.place import place
from stoker.nouns.function import FunctionConfig
from stoker.nouns.quantity import parse_bytes


class Ledger:
    """Bytes by device and replica. Single writer: the reconciler.

    It lives in memory and is rebuilt from the replica records, which carry devices and bytes.
    """

    def __init__(self, capacity: Mapping[str, int]) -> None:
        self.capacity = dict(capacity)
        self._held: dict[str, dict[str, int]] = {}

    def free(self) -> dict[str, int]:
        """Free bytes by device; never negative."""
        used = self.used()
        return {device: max(0, size - used[device]) for device, size in self.capacity.items()}

    def used(self) -> dict[str, int]:
        """Promised bytes by device."""
        used = dict.fromkeys(self.capacity, 0)
        for holding in self._held.values():
            for device, count in holding.items():
                used[device] += count
        return used

    def take(self, replica: str, devices: tuple[str, ...], bytes_each: int) -> None:
        """Promises ``bytes_each`` of each device; devices that are gone are ignored."""
        self._held[replica] = {
            device: min(bytes_each, self.capacity[device])
            for device in devices
            if device in self.capacity
        }

    def has_room(self, devices: tuple[str, ...], bytes_each: int) -> bool:
        """Whether these very devices have that much free now."""
        free = self.free()
        return all(free[device] >= bytes_each for device in devices if device in free)

    def give_back(self, replica: str) -> None:
        """The replica's processes are gone."""
        self._held.pop(replica, None)

    def holders(self, ignoring: frozenset[str] = frozenset()) -> list[str]:
        """Replicas that hold bytes of some device."""
        return sorted(r for r, held in self._held.items() if held and r not in ignoring)

    def fit(
        self, config: FunctionConfig, without: frozenset[str] = frozenset()
    ) -> tuple[tuple[str, ...], int] | None:
        """Devices and bytes on each for one replica, or None when it does not fit now.

        Args:
            config: the function. ``STOKER_GPU_MEMORY`` is what one worker needs; without it the
                replica gets its cards whole, as on Kubernetes, and each of its workers an even
                share: promising less than an unknown model needs is how co-located models run out
                of memory.
            without: replicas to leave out of the account, as if they were gone.
        """
        if not config.gpus or not self.capacity:
            return (), 0
        free = self._free_without(without)
        declared = config.env.get("STOKER_GPU_MEMORY")
        if declared:
            each = bytes_per_gpu(parse_bytes(declared), config.workers, config.gpus)
            devices = place(free, gpus=config.gpus, bytes_per_gpu=each)
            return None if devices is None else (devices, each)
        whole = {device: size for device, size in free.items() if size == self.capacity[device]}
        devices = place(whole, gpus=config.gpus, bytes_per_gpu=0)
        if devices is None:
            return None
        return devices, max(self.capacity[device] for device in devices)

    def _free_without(self, without: frozenset[str]) -> dict[str, int]:
        free = self.free()
        for replica in without:
            for device, count in self._held.get(replica, {}).items():
                free[device] += count
        return free
