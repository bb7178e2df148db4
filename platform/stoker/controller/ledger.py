"""The ledger: which bytes of which device are promised to which replica."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.decide.fit import bytes_per_gpu
from stoker.decide.place import place
from stoker.nouns.function import FunctionConfig
from stoker.nouns.quantity import format_bytes, parse_bytes


class Ledger:
    """Bytes by device and replica. Single writer: the reconciler.

    It lives in memory and is rebuilt from the replica records, which carry devices and bytes.
    """

    def __init__(self, capacity: Mapping[str, int]) -> None:
        self.capacity = dict(capacity)
        self._held: dict[str, dict[str, int]] = {}
        self._foreign: dict[str, int] = {}
        self._lost: frozenset[str] = frozenset()

    def see(self, present: Mapping[str, int], foreign: Mapping[str, int]) -> None:
        """Takes what was seen of the devices.

        Args:
            present: bytes of each device that is there. One that was and is not is closed: it has
                nothing free until it is back.
            foreign: bytes of each that processes hold which are not ours.
        """
        self.capacity.update(present)
        self._lost = frozenset(self.capacity) - frozenset(present)
        self._foreign = dict(foreign)

    @property
    def lost(self) -> frozenset[str]:
        """Devices that were there and are not now. They stay in ``capacity``: they may be back."""
        return self._lost

    def foreign(self) -> dict[str, int]:
        """Bytes by device that are neither promised nor free: other programs hold them."""
        return {device: self._foreign.get(device, 0) for device in self.capacity}

    def could_fit(self, config: FunctionConfig) -> bool:
        """Whether a replica fits these devices when they are empty and all there."""
        return Ledger(self.capacity).fit(config) is not None

    def missing(self, config: FunctionConfig) -> str:
        """Why a replica fits only if lost devices come back; empty where that is not so."""
        if not self._lost or not config.gpus:
            return ""
        left = {name: size for name, size in self.capacity.items() if name not in self._lost}
        if left and Ledger(left).fit(config) is not None:
            return ""
        return (
            f"needs {config.gpus} GPU(s); {len(left)} of {len(self.capacity)} are left: "
            f"{', '.join(sorted(self._lost))} lost"
        )

    def obstacles(self, ignoring: frozenset[str] = frozenset()) -> str:
        """What stands in the way of a replica, for people."""
        words = self.holders(ignoring)
        words += [
            f"other programs ({format_bytes(count)} of {device})"
            for device, count in sorted(self._foreign.items())
            if count
        ]
        return ", ".join(words)

    def free(self) -> dict[str, int]:
        """Free bytes by device that is there; never negative."""
        used = self.used()
        return {
            device: max(0, size - used[device] - self._foreign.get(device, 0))
            for device, size in self.capacity.items()
            if device not in self._lost
        }

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
        return all(free.get(device, 0) >= bytes_each for device in devices)

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
        # Nobody of ours is on it; what a display server takes makes a card no less whole.
        taken = self._taken_without(without)
        whole = {device: size for device, size in free.items() if device not in taken}
        devices = place(whole, gpus=config.gpus, bytes_per_gpu=1)
        if devices is None:
            return None
        return devices, max(whole[device] for device in devices)

    def _taken_without(self, without: frozenset[str]) -> set[str]:
        held = (held for replica, held in self._held.items() if replica not in without)
        return {device for holding in held for device in holding}

    def _free_without(self, without: frozenset[str]) -> dict[str, int]:
        free = self.free()
        for replica in without:
            for device, count in self._held.get(replica, {}).items():
                if device in free:
                    free[device] += count
        return free
