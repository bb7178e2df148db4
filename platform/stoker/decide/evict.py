"""Eviction: whose replica gives its bytes to a function that does not fit, and when.

**Whom.** A replica is worth what losing it would cost, by what it takes: (seconds of a reload x
requests a second) / bytes, all of them measured. That is GreedyDual's value with frequency and size
(Young 1994; Cherkasova 1998); instead of its inflation the rate forgets (`stoker.decide.rate`),
which did better on every trace of ``bench/eviction.py``. The least worth goes first; of several
devices the one where that costs least.

**How far.** One that can sleep is put to sleep where that frees enough: it comes back in the time
of a copy, which is then what losing it costs. What sleeps already holds its processes' contexts and
serves nobody: it is the first to go, where bytes so few are of use.

**When.** Only a replica without any work goes at once, and not before `MIN_RESIDENCY_S`. While the
ones to go are asked for so often that waiting a little saves more waiting than it costs, the
newcomer waits (`_worth_waiting`): alternating demand for two models is served in turns and not
request by request. Each wait has a bound (`patience_s`): past it the least valuable replica that
has had its turn takes no new requests, finishes what it holds, however long, and goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stoker.decide.place import place

MIN_RESIDENCY_S = 0.5
"""From ready on a replica stays so long: two reports of the gateways, so that the requests it was
woken for are seen to be its work before anyone takes it for idle."""
PATIENCE = 4.0
"""A request waits for its turn at most so many times what the swap to and fro takes to load."""
LEAST_PATIENCE_S = 1.0
"""But not less than so long, and at most the share below."""
PATIENCE_SHARE = 0.25
"""Of the time that a request may wait for a wake at all: the load must fit in the rest."""
MARGIN = 3.0
"""A swap is put off only for a saving so many times over: at 1 some alternating traces wait longer
in all than with LRU, by up to a fifth; at 3 none does."""
DEFAULT_RELOAD_S = 5.0
"""Seconds, of a function that was never seen to load."""
DEFAULT_ROUSE_S = 1.0
"""Seconds, of one that was never seen to come back from sleep: a copy to the device."""
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Resident:
    """A replica that holds bytes of devices.

    Attributes:
        held: bytes by device.
        reload_s: what its function took to load when it was last measured, seconds.
        rate: requests a second that would have to wait if it went.
        since: when it became ready; None: it is starting or ends already, and holds its bytes.
        busy: requests in flight on it or waiting for its function, or nobody knows.
        pinned: its function's ``minReplicas`` need it.
        asleep: it holds no more than its processes' contexts.
        rest: what it would still hold asleep, by device; None: it cannot sleep.
        rouse_s: what coming back from sleep takes, seconds.
    """

    id: str
    function: str
    held: Mapping[str, int]
    reload_s: float
    rate: float
    since: float | None
    busy: bool = False
    pinned: bool = False
    asleep: bool = False
    rest: Mapping[str, int] | None = None
    rouse_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Going:
    """A resident that goes. ``sleeps``: no further than off its devices."""

    resident: Resident
    sleeps: bool = False

    @property
    def seconds(self) -> float:
        """What it takes to have it back as it was."""
        if self.sleeps:
            return self.resident.rouse_s
        if self.resident.asleep:
            return max(0.0, self.resident.reload_s - self.resident.rouse_s)
        return self.resident.reload_s

    @property
    def cost(self) -> float:
        """Of losing it, in seconds of requests that wait for each second."""
        return self.seconds * self.resident.rate

    def frees(self, device: str) -> int:
        """Bytes of the device that come back."""
        kept = self.resident.rest if self.sleeps and self.resident.rest else {}
        return max(0, self.resident.held.get(device, 0) - kept.get(device, 0))

    @property
    def worth(self) -> float:
        """Seconds of a reload x requests a second, for each GiB that it gives back.

        >>> Going(Resident("r", "f", {"a": 2 << 30}, reload_s=4.0, rate=0.5, since=0.0)).worth
        1.0
        """
        freed = sum(self.frees(device) for device in self.resident.held)
        return self.cost / max(freed / _GIB, 1e-9)

    @property
    def order(self) -> tuple[bool, float, float, str]:
        """Who goes first."""
        one = self.resident
        return (not one.asleep, self.worth, one.since or 0.0, one.id)


@dataclass(frozen=True, slots=True)
class Want:
    """A replica that does not fit now.

    Attributes:
        gpus: how many different devices it needs.
        each: bytes that it needs on each of them.
        reload_s: what loading it takes, seconds.
        rate: requests a second for its function.
        waiting: requests that wait for it.
        waited_s: how long the oldest of them has waited, seconds.
        behind: requests for other functions that do not fit either, and wait longer with these.
        limit_s: how long a request may wait for a wake at all, seconds.
        first: its function has no other replica; only such a one may ever press a busy one out.
    """

    function: str
    gpus: int
    each: int
    reload_s: float = DEFAULT_RELOAD_S
    rate: float = 0.0
    waiting: int = 1
    waited_s: float = 0.0
    behind: int = 0
    limit_s: float = 120.0
    first: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """The devices on which it fits once the victims are gone; none are needed when it fits now.

    Attributes:
        victims: replicas that end.
        sleepers: replicas that fall asleep.
    """

    devices: tuple[str, ...]
    victims: tuple[str, ...] = ()
    sleepers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now. ``until``: the first moment at which time alone may change that."""

    until: float
    why: str


@dataclass(frozen=True, slots=True)
class _Choice:
    devices: tuple[str, ...]
    victims: tuple[Going, ...]

    @property
    def cost(self) -> tuple[float, int]:
        return sum(victim.cost for victim in self.victims), len(self.victims)


def patience_s(want: Want, others: Iterable[Going]) -> float:
    """How long the oldest request of ``want`` waits before a turn is taken for it, seconds.

    Args:
        want: who waits.
        others: those that would have to go.
    """
    swap = want.reload_s + max((other.seconds for other in others), default=0.0)
    return min(max(LEAST_PATIENCE_S, PATIENCE * swap), PATIENCE_SHARE * want.limit_s)


def make_room(
    want: Want, residents: Sequence[Resident], free: Mapping[str, int], now: float
) -> Room | Wait:
    """Decides over one replica that is wanted.

    Args:
        want: the replica.
        residents: all that holds bytes of the devices.
        free: bytes of each device that nobody holds or was promised.
        now: in the seconds of `Resident.since`.
    """
    fitting = place(free, gpus=want.gpus, bytes_per_gpu=want.each)
    if fitting is not None:
        return Room(fitting)
    goers = [r for r in residents if r.since is not None and not r.pinned]
    idle = [r for r in goers if not r.busy]
    settled = [r for r in idle if r.asleep or now >= (r.since or 0.0) + MIN_RESIDENCY_S]
    choice = _cheapest(want, settled, free)
    if choice is not None:
        bound = patience_s(want, choice.victims)
        if want.waited_s >= bound or not _worth_waiting(want, choice.victims):
            return _room(choice)
        until = now + bound - want.waited_s
        return Wait(until, f"{_names(choice.victims)} is asked for more often")
    young = _cheapest(want, idle, free)
    if young is not None:
        until = max(v.resident.since or 0.0 for v in young.victims) + MIN_RESIDENCY_S
        return Wait(until, f"{_names(young.victims)} has just become ready")
    return _press(want, goers, free, now)


def _press(
    want: Want, goers: Sequence[Resident], free: Mapping[str, int], now: float
) -> Room | Wait:
    """No set of idle replicas is enough: after the bound, busy ones that had their turn go too."""
    choice = _cheapest(want, goers, free)
    if choice is None:
        return Wait(now + LEAST_PATIENCE_S, "what holds the bytes may not go")
    if not want.first:
        return Wait(now + LEAST_PATIENCE_S, f"{_names(choice.victims)} is at work")
    bound = patience_s(want, choice.victims)
    due = [now + bound - want.waited_s]
    due += [_turn_ends(victim.resident, want) for victim in choice.victims]
    if now < max(due):
        return Wait(max(due), f"{_names(choice.victims)} is at work")
    return _room(choice)


def _turn_ends(resident: Resident, want: Want) -> float:
    """Until when a busy replica keeps its place: as long as loading it and its follower takes.

    So under the heaviest of alternating demand the devices compute for half of the time. One that
    sleeps serves nobody, and has no turn.
    """
    if resident.asleep:
        return resident.since or 0.0
    return (resident.since or 0.0) + max(MIN_RESIDENCY_S, resident.reload_s + want.reload_s)


def _worth_waiting(want: Want, victims: Sequence[Going]) -> bool:
    """Whether the swap should be put off for a moment.

    In a moment the victims serve requests that would each wait for about the two loads of a swap
    and a swap back (``saved``); meanwhile those who wait here, and those who come meanwhile, wait
    that moment longer (``lost``). And a swap that is put off for ever saves nothing: once they have
    waited as long in all as the swap costs the others, it pays (a ski rental's rule).
    """
    swap = [(v.resident.rate, v.seconds + want.reload_s) for v in victims]
    saved = sum(rate * seconds for rate, seconds in swap)
    lost = MARGIN * (want.waiting + want.behind + want.rate * want.reload_s)
    price = sum(rate * seconds**2 / 2 for rate, seconds in swap)
    spent = want.waited_s * (want.waiting + 1) / 2
    return saved > lost and spent < price


def _cheapest(want: Want, goers: Sequence[Resident], free: Mapping[str, int]) -> _Choice | None:
    """The devices that cost least to free, and who must go for it."""
    by_device = [(_on((device,), want, goers, free), device) for device in free]
    found = [(choice.cost, -free[device], device) for choice, device in by_device if choice]
    if len(found) < want.gpus:
        return None
    return _on(tuple(device for _, _, device in sorted(found)[: want.gpus]), want, goers, free)


def _on(
    devices: tuple[str, ...], want: Want, goers: Sequence[Resident], free: Mapping[str, int]
) -> _Choice | None:
    """Who goes from these devices: the least worth first, nobody in vain, nobody too far."""
    missing = {device: want.each - free[device] for device in devices}
    for gently in (True, False):
        going = [Going(goer, sleeps=gently and _can_sleep(goer)) for goer in goers]
        victims = _gather(going, missing)
        if _suffice(victims, missing):
            return _Choice(devices, _spared(victims, missing))
    return None


def _can_sleep(goer: Resident) -> bool:
    return goer.rest is not None and not goer.busy


def _gather(going: Sequence[Going], missing: Mapping[str, int]) -> list[Going]:
    """As many as it takes, or all that give anything."""
    victims: list[Going] = []
    lacks = dict(missing)
    for victim in sorted(going, key=lambda one: one.order):
        if any(lack > 0 and victim.frees(device) for device, lack in lacks.items()):
            victims.append(victim)
            lacks = {device: lack - victim.frees(device) for device, lack in lacks.items()}
    return victims


def _suffice(victims: Sequence[Going], missing: Mapping[str, int]) -> bool:
    return all(sum(v.frees(device) for v in victims) >= lack for device, lack in missing.items())


def _spared(victims: list[Going], missing: Mapping[str, int]) -> tuple[Going, ...]:
    """Without those that go in vain; asleep instead of ended, those of whom that is enough."""
    for victim in sorted(victims, key=lambda one: -one.worth):
        others = [one for one in victims if one is not victim]
        asleep = [*others, replace(victim, sleeps=True)] if _can_sleep(victim.resident) else None
        if _suffice(others, missing):
            victims = others
        elif asleep is not None and _suffice(asleep, missing):
            victims = asleep
    return tuple(victims)


def _room(choice: _Choice) -> Room:
    gone = tuple(victim.resident.id for victim in choice.victims if not victim.sleeps)
    asleep = tuple(victim.resident.id for victim in choice.victims if victim.sleeps)
    return Room(choice.devices, gone, asleep)


def _names(victims: Sequence[Going]) -> str:
    return ", ".join(sorted({victim.resident.function for victim in victims}))
