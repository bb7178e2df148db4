"""The quality gate: what was measured of a candidate and its bounds in, one finding a check out.

Each check fails closed: what is not known, or not a number, is refused, never waved through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at."""

    code: str
    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a metric may not cross; None: not judged. See `stoker.quality.declaration`."""

    at_least: float | None = None
    at_most: float | None = None
    max_drop: float | None = None
    max_relative_drop: float | None = None


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """A metric of the candidate beside the reference's, over the same items.

    Attributes:
        what: set and metric, for people.
        difference: candidate minus reference; ``low`` and ``high`` are its interval's ends.
    """

    what: str
    higher_is_better: bool
    reference: float
    candidate: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What a prepared checkpoint claims, and what its file holds.

    Attributes:
        cast: the recipe changes only the float type, and need not replace a module.
        claimed: modules whose weights the manifest calls replaced.
        found: of those, how many are in other numbers in the file itself.
        unknown: why the file could not be looked at; empty when it was.
    """

    cast: bool
    claimed: int
    found: int
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class CostFacts:
    """What one costs. ``latency_ms`` by number of items in a request; 0 is not known."""

    weight_bytes: int
    memory_bytes: int
    latency_ms: Mapping[str, float]

    @property
    def latency(self) -> float:
        """One number for all: the geometric mean, in milliseconds."""
        times = [one for one in self.latency_ms.values() if one > 0]
        if not times:
            return 0.0
        return math.exp(sum(map(math.log, times)) / len(times))


def judge_metric(facts: MetricFacts, bounds: Bounds) -> list[Finding]:
    """Whether a metric keeps its bounds: by its value, and by the whole interval of the drop."""
    numbers = (facts.reference, facts.candidate, facts.difference, facts.low, facts.high)
    if not all(map(math.isfinite, numbers)):
        return [
            Finding("not_a_number", False, f"{facts.what}: {facts.candidate} is no finite number")
        ]
    found = _floors(facts, bounds)
    for bound, unit, scale in (
        (bounds.max_drop, "", 1.0),
        (bounds.max_relative_drop, " of the reference", abs(facts.reference)),
    ):
        if bound is not None:
            found.append(_drop(facts, bound * scale, f"{bound:g}{unit}"))
    return found


def _floors(facts: MetricFacts, bounds: Bounds) -> list[Finding]:
    found = []
    if bounds.at_least is not None:
        words = f"{facts.what}: {facts.candidate:.4f}, at least {bounds.at_least:g} is declared"
        found.append(Finding("floor", facts.candidate >= bounds.at_least, words))
    if bounds.at_most is not None:
        words = f"{facts.what}: {facts.candidate:.4f}, at most {bounds.at_most:g} is declared"
        found.append(Finding("floor", facts.candidate <= bounds.at_most, words))
    return found


def _drop(facts: MetricFacts, most: float, declared: str) -> Finding:
    sign = -1.0 if facts.higher_is_better else 1.0
    worse = sign * facts.difference
    worst = sign * (facts.low if facts.higher_is_better else facts.high)
    moved = (
        f"{facts.what}: {facts.difference:+.4f} against the reference "
        f"({facts.low:+.4f} to {facts.high:+.4f})"
    )
    bound = f"a drop of {declared} is allowed"
    if worse > most:
        return Finding("drop", False, f"{moved}; {bound}")
    if worst > most:
        return Finding(
            "drop_uncertain", False, f"{moved}; {bound}, and the interval crosses it: more items"
        )
    return Finding("drop", True, f"{moved}; {bound}")


def judge_agreement(what: str, measure: str, agreement: float | None, least: float) -> Finding:
    """Whether the answers are like the reference's, whatever the labels say of them."""
    if agreement is None or not math.isfinite(agreement):
        return Finding("agreement", False, f"{what}: the agreement with the reference is not known")
    words = f"{what}: {measure} {agreement:.4f} with the reference, at least {least:g} is declared"
    return Finding("agreement", agreement >= least, words)


def judge_set(what: str, items: int, classes: int | None, leaked: int) -> list[Finding]:
    """Whether a set can judge anything.

    Args:
        what: its name.
        items: it has.
        classes: different labels, or scores, among them; None where it has none.
        leaked: of its items, how many the recipe was calibrated or trained with.
    """
    found = []
    if items < 2:
        found.append(Finding("empty_set", False, f"{what}: {items} items judge nothing"))
    if classes is not None and items >= 2 and classes < 2:
        found.append(Finding("one_class", False, f"{what}: all {items} items have the same label"))
    if leaked:
        words = f"{what}: {leaked} of {items} items are among the texts the recipe was made with"
        found.append(Finding("leak", False, f"{words}; evaluate on others"))
    return found


def judge_sets_unchanged(before: Mapping[str, str], now: Mapping[str, str]) -> list[Finding]:
    """Whether the sets are those that the accepted reference was measured on.

    A set that is swapped for an easier one would else pass whatever is put before it.

    Args:
        before: digest by name, as accepted; empty: nothing was accepted yet.
        now: digest by name.
    """
    if not before:
        return []
    changed = sorted(name for name in before if before[name] != now.get(name))
    fresh = sorted(set(now) - set(before))
    if not changed and not fresh:
        return [Finding("set_changed", True, "the sets are those of the accepted reference")]
    parts = [f"{name} is not as accepted" for name in changed]
    parts += [f"{name} is new" for name in fresh]
    words = "; ".join(parts)
    return [
        Finding("set_changed", False, f"{words}: accept the reference on it with --accept-sets")
    ]


def judge_reference(what: str, accepted: float, facts: MetricFacts, bounds: Bounds) -> Finding:
    """Whether the reference itself is as good as it was when it was accepted.

    A broken reference makes every candidate look good: none of them drops against it.
    """
    allowed = max(
        bounds.max_drop or 0.0, (bounds.max_relative_drop or 0.0) * abs(accepted), 1e-6
    )  # fmt: skip
    worse = (accepted - facts.reference) * (1.0 if facts.higher_is_better else -1.0)
    words = f"{what}: the reference has {facts.reference:.4f}, {accepted:.4f} was accepted"
    return Finding("reference_moved", math.isfinite(worse) and worse <= allowed, words)


def judge_checkpoint(facts: CheckpointFacts) -> list[Finding]:
    """Whether what calls itself quantized is."""
    if facts.cast:
        return []
    if facts.unknown:
        return [
            Finding("nothing_quantized", False, f"not known what is quantized: {facts.unknown}")
        ]
    if not facts.claimed:
        return [
            Finding(
                "nothing_quantized", False, "the recipe quantizes, and replaced no module at all"
            )
        ]
    if facts.found < facts.claimed:
        words = (
            f"the manifest names {facts.claimed} quantized modules, "
            f"the checkpoint holds {facts.found}"
        )
        return [Finding("fewer_quantized", False, words)]
    return [Finding("nothing_quantized", True, f"{facts.found} modules are quantized")]


def judge_cost(
    goal: str, candidate: CostFacts, reference: CostFacts, limits: Mapping[str, float | None]
) -> list[Finding]:
    """Whether it costs what it may: as declared, and by the goal no more than the reference.

    Args:
        goal: see `stoker.decide.winner`.
        candidate: its cost.
        reference: the reference's.
        limits: ``size``, ``memory`` and ``latency`` as a share of the reference's; None: not
            judged.
    """
    of_goal = {"smallest": ("size",), "fastest": ("latency",), "cheapest": ("cost",)}[goal]
    costs = {name: (cost(name, candidate), cost(name, reference)) for name in _MEASURES}
    found = []
    for name, (own, other) in costs.items():
        limit = limits.get(name)
        if limit is None and name in of_goal:
            limit = 1.0
        if limit is not None:
            found.append(_costs(name, own, other, limit))
    return found


_MEASURES = ("size", "memory", "latency", "cost")
_WHAT = {
    "size": "bytes of the weights",
    "memory": "a worker's bytes",
    "latency": "the handler's time",
    "cost": "bytes of the weights × the handler's time",
}
_CODES = {"size": "larger", "memory": "larger", "latency": "slower", "cost": "dearer"}


def cost(measure: str, facts: CostFacts) -> float:
    """One measure: bytes, milliseconds, or bytes times milliseconds. 0 is not known."""
    return {
        "size": float(facts.weight_bytes),
        "memory": float(facts.memory_bytes),
        "latency": facts.latency,
        "cost": facts.weight_bytes * facts.latency,
    }[measure]


def _costs(name: str, own: float, other: float, limit: float) -> Finding:
    what = f"{name} ({_WHAT[name]})"
    if own <= 0 or other <= 0:
        return Finding(_CODES[name], False, f"{what}: not known, and {limit:g} × is declared")
    words = f"{what}: {own / other:.2f} × the reference's, at most {limit:g} × may be"
    return Finding(_CODES[name], own <= other * limit, words)


def holds(findings: Sequence[Finding]) -> bool:
    """Whether a candidate passes: something was looked at, and all of it holds."""
    return bool(findings) and all(one.passed for one in findings)
