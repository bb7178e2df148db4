"""Traces to replay: who asks for which model, when. Made from a seed, or recorded."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
RECORDED = Path(__file__).parent / "eviction_recorded.json"
"""Written by ``python -m bench.record_trace``; it says itself what was recorded."""


@dataclass(frozen=True, slots=True)
class Model:
    """One function's model: bytes on its device, seconds to load, seconds a request."""

    name: str
    size: int
    reload_s: float
    service_s: float = 0.05


@dataclass(frozen=True)
class Trace:
    """Arrivals in order of time, on devices of these sizes."""

    name: str
    models: dict[str, Model]
    devices: dict[str, int]
    arrivals: list[tuple[float, str]]


def fleet(count: int, rng: random.Random) -> dict[str, Model]:
    """Models of the sizes and loads that one meets: 0.5 to 8 GiB, some long to start by nature.

    A load is a start (imports, warm-up, perhaps a compilation) and the reading of its bytes, so
    that the seconds are not proportional to the bytes.
    """
    made = {}
    for index in range(count):
        size = min(8.0, max(0.5, rng.lognormvariate(0.8, 0.7)))
        start = min(20.0, rng.lognormvariate(0.3, 0.9))
        name = f"m{index:02}"
        made[name] = Model(name, int(size * GIB), round(start + size / 2.0, 3))
    return made


def zipf(seed: int, *, models: int = 24, rate: float = 0.5, hours: float = 2.0) -> Trace:
    """Poisson arrivals; the k-th most popular model is asked for 1/k as often as the first."""
    rng = random.Random(seed)
    known = fleet(models, rng)
    names = list(known)
    rng.shuffle(names)
    weights = [1 / rank for rank in range(1, models + 1)]
    times = _poisson(rng, lambda _: rate, hours * 3600, rate)
    arrivals = [(at, rng.choices(names, weights)[0]) for at in times]
    return Trace("zipf", known, _two_cards(), arrivals)


def diurnal(seed: int, *, models: int = 24, rate: float = 0.8, hours: float = 4.0) -> Trace:
    """Zipf, whose volume goes up and down, and whose favourites change with the hour."""
    rng = random.Random(seed)
    known = fleet(models, rng)
    names = list(known)
    weights = [1 / rank for rank in range(1, models + 1)]
    period = hours * 3600 / 2

    def level(at: float) -> float:
        return rate * (0.55 + 0.45 * math.sin(2 * math.pi * at / period))

    arrivals = []
    for at in _poisson(rng, level, hours * 3600, rate):
        turn = int(at / (period / 4)) * 3 % models
        arrivals.append((at, rng.choices(names[turn:] + names[:turn], weights)[0]))
    return Trace("diurnal", known, _two_cards(), arrivals)


def recorded() -> Trace:
    """What a platform was asked for on its simulated card, with what it measured."""
    told = json.loads(RECORDED.read_text())
    models = {name: Model(name, **facts) for name, facts in told["models"].items()}
    names = list(models)
    arrivals = [(float(at), names[index]) for at, index in told["arrivals"]]
    return Trace("recorded", models, told["devices"], arrivals)


def slower(trace: Trace, times: float) -> Trace:
    """The same requests at the same moments, of models that take so many times as long to load."""
    models = {
        name: Model(name, model.size, model.reload_s * times, model.service_s)
        for name, model in trace.models.items()
    }
    return Trace(f"{trace.name}, loads x {times:g}", models, trace.devices, trace.arrivals)


def alternating(
    gap_s: float, *, pattern: str = "ABAC", count: int = 400, reload_s: float = 5.0, room: int = 2
) -> Trace:
    """The pattern over and over, ``gap_s`` apart; ``room`` of its equal models fit at once."""
    models = {name: Model(name, 4 * GIB, reload_s) for name in sorted(set(pattern))}
    names = itertools.islice(itertools.cycle(pattern), count)
    arrivals = [(index * gap_s, name) for index, name in enumerate(names)]
    label = "-".join(pattern)
    return Trace(f"{label} every {gap_s:g} s", models, {"card": room * 4 * GIB}, arrivals)


def stale_favourite(*, count: int = 300, reload_s: float = 5.0) -> Trace:
    """Against whoever counts uses for ever: one model is asked for often, then never again."""
    models = {name: Model(name, 4 * GIB, reload_s) for name in "ABCD"}
    arrivals = [(index * 1.0, "A") for index in range(count)]
    start = count + 20.0
    rest = itertools.islice(itertools.cycle("BCBD"), count)
    arrivals += [(start + index * 15.0, name) for index, name in enumerate(rest)]
    return Trace("a favourite that goes stale", models, {"card": 8 * GIB}, arrivals)


def hot_and_rare(*, reload_s: float = 5.0, seconds: int = 1200) -> Trace:
    """Two models and room for one: the first is asked for every second, the other now and then."""
    models = {name: Model(name, 4 * GIB, reload_s) for name in "AB"}
    arrivals = [(float(at), "A") for at in range(seconds)]
    arrivals += [(at + 0.5, "B") for at in range(7, seconds, 13)]
    return Trace("one hot, one rare", models, {"card": 4 * GIB}, sorted(arrivals))


def _poisson(
    rng: random.Random, level: Callable[[float], float], until: float, most: float
) -> Iterator[float]:
    """Arrivals of a rate that changes, by thinning those of the highest."""
    at = 0.0
    while (at := at + rng.expovariate(most)) < until:
        if rng.random() * most <= level(at):
            yield at


def _two_cards() -> dict[str, int]:
    return {"card-0": 16 * GIB, "card-1": 16 * GIB}
