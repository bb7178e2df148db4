"""Canaries: whether one goes on, serves from now on, or is rolled back.

Every bound is on a share of requests: those that failed, those slower than a limit, those answered
otherwise. A share that was seen is not the share that is: of fifty requests of a revision of which
one in a hundred fails, two or more do in nine of a hundred cases. So a canary is rolled back
while its time runs only when the share is beyond its bound with confidence (Wilson's lower limit,
one-sided, 99 %: it is looked at again and again). Once its time is up the plain share decides, for
which it may take as long again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stoker.decide.latency import above, allowed_s, quantile
from stoker.nouns.evidence import Evidence, Side
from stoker.nouns.rollout import CanarySpec

CONFIDENCE = 2.326
"""Standard errors: one-sided 99 %."""
TAIL = 0.05
"""What is beyond a 95th percentile."""
EXTENSION = 2.0
"""Lengths after which a canary that is neither within its bounds nor surely beyond is given up."""
STUCK_S = 10.0
"""A request that hangs is no outcome, so no rate shows it. One that has been in the canary's hands
for so long, and for `STUCK_TIMES` the serving revision's 95th percentile, does."""
STUCK_TIMES = 20.0


class Action(StrEnum):
    """What to do with a canary."""

    GO_ON = "go_on"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why, for people."""

    action: Action
    why: str


@dataclass(frozen=True, slots=True)
class Breach:
    """A share that is beyond its bound. ``sure``: whatever chance may have done."""

    why: str
    sure: bool


def judge(spec: CanarySpec, seen: Evidence, *, elapsed_s: float) -> Verdict:
    """Decides over a canary.

    Args:
        spec: what was declared.
        seen: what was counted of it and of the serving revision since it began.
        elapsed_s: seconds that it has run for.
    """
    stuck = _stuck(spec, seen)
    if stuck:
        return Verdict(Action.ROLL_BACK, stuck)
    differing = _differing(spec, seen)
    if differing is not None and differing.sure:
        return Verdict(Action.ROLL_BACK, differing.why)
    answered = seen.canary.requests
    if answered < spec.min_requests:
        return Verdict(Action.GO_ON, f"{answered} of {spec.min_requests} requests")
    breaches = [differing] if differing is not None else []
    breaches += _breaches(spec, seen)
    for breach in breaches:
        if breach.sure:
            return Verdict(Action.ROLL_BACK, breach.why)
    if elapsed_s < spec.length_s:
        return Verdict(Action.GO_ON, f"{elapsed_s:.0f} of {spec.length_s:g} s")
    if not breaches:
        why = f"within its bounds for {elapsed_s:.0f} s and {answered} requests"
        return Verdict(Action.PROMOTE, why)
    why = "; ".join(breach.why for breach in breaches)
    if elapsed_s < EXTENSION * spec.length_s:
        return Verdict(Action.GO_ON, f"its time is up, but {why}: too few requests to be sure")
    return Verdict(Action.ROLL_BACK, f"after twice its time, {why}")


def replicas(share: float, outstanding: int, permits: int, maximum: int) -> int:
    """How many replicas a canary should have for its share of what is in flight and waits.

    At least one: it has nobody to wake it, since what it cannot take at once goes to the other.

    >>> replicas(0.05, 0, 1, 4), replicas(0.5, 6, 2, 4), replicas(1.0, 90, 1, 4)
    (1, 2, 4)
    """
    return max(1, min(maximum, math.ceil(share * outstanding / max(1, permits) - 1e-9)))


def shown(seen: Evidence) -> dict[str, Any]:
    """The evidence in numbers for people and events: latencies in milliseconds."""
    return {
        "stable": _shown_side(seen.stable),
        "canary": _shown_side(seen.canary),
        "mirrored": seen.mirrored,
        "differing": seen.differing,
        "mirror_failed": seen.mirror_failed,
        "mirror_dropped": seen.mirror_dropped,
        "oldest_s": round(seen.oldest_s, 3),
    }


def lower_limit(part: float, total: float) -> float:
    """The least share that is to be reckoned with when ``part`` of ``total`` was seen (Wilson).

    >>> [round(lower_limit(part, 50), 3) for part in (0, 1, 2, 6, 50)]
    [0.0, 0.003, 0.009, 0.049, 0.902]
    """
    if total <= 0:
        return 0.0
    share, square = min(1.0, part / total), CONFIDENCE**2
    middle = share + square / (2 * total)
    spread = CONFIDENCE * math.sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, (middle - spread) / (1 + square / total))


def _breaches(spec: CanarySpec, seen: Evidence) -> Iterator[Breach]:
    """The rates that are beyond their bounds, of a canary that has answered enough."""
    canary, stable, bounds = seen.canary, seen.stable, spec.bounds
    # Whatever fails beside it fails through no fault of the canary's.
    beside = stable.errors / stable.requests if stable.requests else 0.0
    if _rate(canary) > beside + bounds.error_rate:
        yield Breach(
            f"{canary.errors} of {canary.requests} requests failed ({_rate(canary):.1%}), "
            f"{beside:.1%} beside it; the bound is {bounds.error_rate:.1%} more",
            sure=lower_limit(canary.errors, canary.requests) > beside + bounds.error_rate,
        )
    for limit_s, words in _limits(spec, seen):
        slower, total = above(canary.latency, limit_s), sum(canary.latency.values())
        if total and slower > TAIL * total:
            p95 = quantile(canary.latency, 1 - TAIL) or 0.0
            yield Breach(
                f"its 95th percentile is {1e3 * p95:.1f} ms; {words}",
                sure=lower_limit(slower, total) > TAIL,
            )


def _limits(spec: CanarySpec, seen: Evidence) -> Iterator[tuple[float, str]]:
    """What its 95th percentile may not exceed, seconds."""
    bounds, beside = spec.bounds, _p95_beside(spec, seen)
    if bounds.latency_ratio is not None and beside is not None:
        ratio, margin_s = bounds.latency_ratio, bounds.latency_margin_ms / 1e3
        limit = allowed_s(beside, ratio=ratio, margin_s=margin_s)
        which = (
            f"{ratio:g} times the"
            if limit <= ratio * beside
            else f"{bounds.latency_margin_ms:g} ms more than the"
        )
        yield limit, f"the bound is {1e3 * limit:.1f} ms, {which} {1e3 * beside:.1f} ms beside it"
    if bounds.latency_ms is not None:
        yield bounds.latency_ms / 1e3, f"the bound is {bounds.latency_ms:g} ms"


def _p95_beside(spec: CanarySpec, seen: Evidence) -> float | None:
    """The serving revision's, seconds; None while it has answered too few to say."""
    if seen.stable.requests < spec.min_requests:
        return None
    return quantile(seen.stable.latency, 1 - TAIL)


def _differing(spec: CanarySpec, seen: Evidence) -> Breach | None:
    bound = spec.bounds.differing
    if bound is None or seen.mirrored < spec.min_requests:
        return None
    share = seen.differing / seen.mirrored
    if share <= bound:
        return None
    why = (
        f"{seen.differing} of {seen.mirrored} mirrored requests were answered otherwise "
        f"({share:.1%}); the bound is {bound:.1%}"
    )
    return Breach(why, sure=lower_limit(seen.differing, seen.mirrored) > bound)


def _stuck(spec: CanarySpec, seen: Evidence) -> str:
    """Why a request is taken to hang; empty when none does."""
    beside = _p95_beside(spec, seen)
    judged = spec.bounds.latency_ratio is not None or spec.bounds.latency_ms is not None
    if not judged or beside is None or seen.oldest_s < max(STUCK_S, STUCK_TIMES * beside):
        return ""
    return (
        f"a request has been in its hands for {seen.oldest_s:.0f} s; "
        f"the 95th percentile beside it is {1e3 * beside:.1f} ms"
    )


def _rate(side: Side) -> float:
    return side.errors / side.requests if side.requests else 0.0


def _shown_side(side: Side) -> dict[str, Any]:
    found: dict[str, Any] = {
        "requests": side.requests,
        "errors": side.errors,
        "error_rate": round(_rate(side), 6),
    }
    for name, share in (("p50_ms", 0.5), ("p95_ms", 1 - TAIL)):
        value = quantile(side.latency, share)
        found[name] = None if value is None else round(1e3 * value, 3)
    return found
