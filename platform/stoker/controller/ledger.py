"""The ledger: which bytes of which device are promised to which replica."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stoker.decide.estimate import CONTEXT_BYTES, Estimate
from stoker.decide.fit import bytes_per_gpu, several_instances, usable
from stoker.decide.learn import learned, modest
from stoker.decide.place import place
from stoker.nouns.device import SIMULATED_PREFIX
from stoker.nouns.quantity import format_bytes, parse_bytes
from stoker.nouns.record import Revision


class Ledger:
    """Bytes by device and replica. Single writer: the reconciler.

    It lives in memory and is rebuilt from the replica records, which carry devices and bytes.

    Args:
        capacity: bytes of each device.
        known: False until the devices were looked at: until then nothing that needs one is placed.
    """

    def __init__(self, capacity: Mapping[str, int], *, known: bool = True) -> None:
        self.capacity = dict(capacity)
        self.known = known
        self._contexts: dict[str, int] = {}
        self._instances: frozenset[str] = frozenset()
        self._held: dict[str, dict[str, int]] = {}
        """By replica, of devices that were never seen as well: they may be seen yet."""
        self._promised: dict[str, dict[str, int]] = {}
        """By function: what is being cleared for it. Nobody else may take those bytes meanwhile."""
        self._foreign: dict[str, int] = {}
        self._lost: frozenset[str] = frozenset()

    def see(
        self,
        present: Mapping[str, int],
        foreign: Mapping[str, int],
        contexts: Mapping[str, int] | None = None,
        instances: Iterable[str] = (),
    ) -> None:
        """Takes what was seen of the devices.

        Args:
            present: bytes of each device that is there. One that was and is not is closed: it has
                nothing free until it is back.
            foreign: bytes of each that processes hold which are not ours.
            contexts: bytes that a process takes of each before anything else, where that is known.
            instances: those that are MIG instances.
        """
        self.known = True
        self.capacity.update(present)
        self._contexts.update(contexts or {})
        self._instances |= frozenset(instances)
        self._lost = frozenset(self.capacity) - frozenset(present)
        self._foreign = dict(foreign)

    @property
    def lost(self) -> frozenset[str]:
        """Devices that were there and are not now. They stay in ``capacity``: they may be back."""
        return self._lost

    def foreign(self) -> dict[str, int]:
        """Bytes by device that are neither promised nor free: other programs hold them."""
        return {device: self._foreign.get(device, 0) for device in self.capacity}

    def could_fit(self, revision: Revision) -> bool:
        """Whether a replica fits these devices when they are empty and all there."""
        return self.emptied(self.capacity).fit(revision) is not None

    def emptied(self, capacity: Mapping[str, int]) -> Ledger:
        """These devices, with nothing on them."""
        empty = Ledger(capacity)
        empty._contexts, empty._instances = self._contexts, self._instances
        return empty

    def usable(self, revision: Revision, devices: Mapping[str, int]) -> dict[str, int]:
        """Those of the devices that a replica may be placed on."""
        return usable(devices, self._instances, revision.config.workers, revision.config.gpus)

    def several_instances(self, revision: Revision) -> str:
        """Why it can never be placed because of MIG; empty where that is not the reason."""
        config = revision.config
        return several_instances(self.capacity, self._instances, config.workers, config.gpus)

    def missing(self, revision: Revision) -> str:
        """Why a replica fits only if lost devices come back; empty where that is not so."""
        gpus = revision.config.gpus
        if not self._lost or not gpus:
            return ""
        left = {name: size for name, size in self.capacity.items() if name not in self._lost}
        if left and self.emptied(left).fit(revision) is not None:
            return ""
        return (
            f"needs {gpus} GPU(s); {len(left)} of {len(self.capacity)} are left: "
            f"{', '.join(sorted(self._lost))} lost"
        )

    def obstacles(self, ignoring: frozenset[str] = frozenset()) -> str:
        """What stands in the way of a replica, for people."""
        if not self.known:
            return "a driver that does not answer"
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
        for replica in self._held:
            for device, count in self.held(replica).items():
                used[device] += count
        return used

    def context(self, device: str) -> int:
        """Bytes that a process takes of the device before anything else, and keeps asleep."""
        usual = 0 if device.startswith(SIMULATED_PREFIX) else CONTEXT_BYTES
        return self._contexts.get(device, usual)

    def take(self, replica: str, devices: tuple[str, ...], bytes_each: int) -> None:
        """Promises ``bytes_each`` of each device."""
        self._held[replica] = dict.fromkeys(devices, bytes_each)

    def keep(self, replica: str, left: Mapping[str, int]) -> None:
        """The replica sleeps, and holds no more than this, by device."""
        self._held[replica] = {device: count for device, count in left.items() if count}

    def room_on(
        self, devices: tuple[str, ...], revision: Revision, function: str, sleeper: str
    ) -> int | None:
        """Bytes on each of these very devices for a replica that comes back to them.

        None: they have not that much free, less what others were promised.

        Args:
            devices: that its workers are pinned to.
            revision: that it runs.
            function: whose promise is not in its own way.
            sleeper: the replica, whose own bytes are not in its way either.
        """
        gone = frozenset({sleeper})
        free = self.free_for(function, [self.held(sleeper)])
        each = self.each(revision)
        if each is not None:
            return each if all(free.get(device, 0) >= each for device in devices) else None
        if self._taken_without(gone, function) & set(devices) or not set(devices) <= set(free):
            return None
        return max((free[device] for device in devices), default=0)

    def give_back(self, replica: str) -> None:
        """The replica's processes are gone."""
        self._held.pop(replica, None)

    def held(self, replica: str) -> Mapping[str, int]:
        """What the replica holds, by device."""
        return {
            device: min(count, self.capacity[device])
            for device, count in self._held.get(replica, {}).items()
            if device in self.capacity
        }

    def promise(self, function: str, devices: tuple[str, ...], bytes_each: int | None) -> None:
        """Keeps room for a function's next replica; ``None`` bytes are the devices whole."""
        self._promised[function] = {
            device: min(self.capacity[device], bytes_each or self.capacity[device])
            for device in devices
        }

    def promised(self, function: str) -> Mapping[str, int]:
        """What is being cleared for the function, by device."""
        return self._promised.get(function, {})

    def forget_promise(self, function: str) -> None:
        """It has started, or wants no replica any more."""
        self._promised.pop(function, None)

    def free_for(self, function: str, coming: Iterable[Mapping[str, int]] = ()) -> dict[str, int]:
        """Free bytes by device, less what others were promised; never negative.

        Args:
            function: for whom; its own promise is no obstacle.
            coming: bytes by device that count as given back.
        """
        used = self.used()
        free = {
            device: size - used[device] - self._foreign.get(device, 0)
            for device, size in self.capacity.items()
        }
        for given in coming:
            for device, count in given.items():
                free[device] += count
        for device, count in self._promised_to_others(function):
            free[device] -= count
        return {device: max(0, left) for device, left in free.items() if device not in self._lost}

    def uncleared(self, function: str, coming: Iterable[Mapping[str, int]] = ()) -> dict[str, int]:
        """Below zero by what replicas hold of each device, for whoever takes devices whole.

        What other programs hold is not in it: it makes a device no less whole (`fit`).
        """
        left = {device: -count for device, count in self.used().items()}
        for given in coming:
            for device, count in given.items():
                left[device] += count
        for device, count in self._promised_to_others(function):
            left[device] -= count
        return {device: min(0, count) for device, count in left.items() if device not in self._lost}

    def _promised_to_others(self, function: str) -> Iterable[tuple[str, int]]:
        for name, held in self._promised.items():
            if name != function:
                yield from held.items()

    def each(self, revision: Revision) -> int | None:
        """Bytes of one replica on each of its GPUs; None: it is unknown and takes them whole.

        With what running out of memory taught (`stoker.decide.learn`), as far as there is so much.
        """
        config, known = revision.config, modest(revision)
        if known is None:
            return self._unlearned(revision)
        least = self._unlearned(known)
        seen = Estimate.of(0, measured=learned(revision.model), context=self._context())
        each = seen.each(config.workers, config.gpus)
        # More than there is nobody can have; less than before would be no lesson.
        return max(least or 0, min(each, self._largest(config.gpus)))

    def _unlearned(self, revision: Revision) -> int | None:
        config = revision.config
        declared = config.env.get("STOKER_GPU_MEMORY")
        if declared:
            return bytes_per_gpu(parse_bytes(declared), config.workers, config.gpus)
        estimate = self._estimate(revision)
        return estimate.each(config.workers, config.gpus) if estimate else None

    def _largest(self, gpus: int) -> int:
        """Bytes of the smallest of so many of the largest devices; 0 where there are fewer."""
        sizes = sorted(self.capacity.values(), reverse=True)
        return sizes[gpus - 1] if 0 < gpus <= len(sizes) else 0

    def _context(self) -> int:
        return max(map(self.context, self.capacity), default=0)

    def lesson(self, revision: Revision, promised: int) -> str:
        """What its replicas lack, in words; empty where they lack nothing.

        Args:
            revision: that serves.
            promised: bytes on each GPU that its replicas have; 0: it has none now.
        """
        config = revision.config
        if modest(revision) is None or not config.gpus or not self.capacity:
            return ""
        seen = Estimate.of(0, measured=learned(revision.model), context=self._context())
        each, largest = seen.each(config.workers, config.gpus), self._largest(config.gpus)
        needs = f"its largest requests need {format_bytes(each)} on a GPU"
        if each > largest:
            return (
                f"{needs}, more than the {format_bytes(largest)} that there is: they get 507, "
                "smaller ones are served"
            )
        if promised and promised < each:
            return (
                f"{needs} and it has {format_bytes(promised)}: the next replica gets them if it can"
            )
        return ""

    def _estimate(self, revision: Revision) -> Estimate | None:
        model = revision.model
        if model is None or not (model.key or model.measured):
            return None
        return Estimate.of(
            model.weights, cache=model.cache, measured=model.measured, context=self._context()
        )

    def arithmetic(self, revision: Revision) -> str:
        """What a replica needs beside what there is, for a function that can never fit."""
        config = revision.config
        sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in self.capacity.items())
        declared, estimate = config.env.get("STOKER_GPU_MEMORY"), self._estimate(revision)
        if config.gpus > len(self.capacity):
            needs = ""
        elif declared:
            each = format_bytes(self.each(revision) or 0)
            needs = (
                f" with {each} on each ({config.workers} worker(s) of {declared}, which is "
                "STOKER_GPU_MEMORY)"
            )
        elif estimate:
            needs = f" with {estimate.arithmetic(config.workers, config.gpus)}"
        else:
            needs = " of its own"
        return f"needs {config.gpus} GPU(s){needs}; this home has {sizes}"

    def holders(self, ignoring: frozenset[str] = frozenset()) -> list[str]:
        """Replicas that hold bytes of some device."""
        return sorted(r for r in self._held if self.held(r) and r not in ignoring)

    def fit(
        self, revision: Revision, without: frozenset[str] = frozenset(), function: str = ""
    ) -> tuple[tuple[str, ...], int] | None:
        """Devices and bytes on each for one replica, or None when it does not fit now.

        Args:
            revision: what it runs. ``STOKER_GPU_MEMORY`` is what one worker needs; without it that
                is estimated from its model's bytes, or what a worker was seen to take. Of whom
                nothing is known gets its cards whole, as on Kubernetes: promising less than an
                unknown model needs is how co-located models run out of memory.
            without: replicas to leave out of the account, as if they were gone.
            function: whose promise is not in its own way.
        """
        config = revision.config
        if config.gpus and not self.known:
            return None
        if not config.gpus or not self.capacity:
            return (), 0
        free = self.usable(revision, self.free_for(function, map(self.held, without)))
        each = self.each(revision)
        if each is not None:
            devices = place(free, gpus=config.gpus, bytes_per_gpu=each)
            return None if devices is None else (devices, each)
        # Nobody of ours is on it; what a display server takes makes a card no less whole.
        taken = self._taken_without(without, function)
        whole = {device: size for device, size in free.items() if device not in taken}
        devices = place(whole, gpus=config.gpus, bytes_per_gpu=1)
        if devices is None:
            return None
        return devices, max(whole[device] for device in devices)

    def _taken_without(self, without: frozenset[str], function: str) -> set[str]:
        """Devices that a replica is on, or that are cleared for another function's."""
        held: list[Mapping[str, int]] = [
            self.held(replica) for replica in self._held if replica not in without
        ]
        held += [kept for name, kept in self._promised.items() if name != function]
        return {device for holding in held for device in holding}
