"""Eviction: the shipped decision against a cache's, on the same traces, in virtual time.

Nothing runs and no clock is read: the figures are the same on every machine.
"""

from __future__ import annotations

from dataclasses import asdict

from bench.context import Context
from bench.eviction_replay import POLICIES, Outcome, replay
from bench.eviction_traces import (
    Trace,
    alternating,
    diurnal,
    hot_and_rare,
    recorded,
    slower,
    stale_favourite,
    zipf,
)
from bench.result import CannotRun, Figure, Result, Target, at_most

PATTERNS = (("ABAC", 2), ("ABAC", 1), ("ABAAC", 1), ("ABC", 2), ("AB", 1))
GAPS_S = (0.5, 1.0, 2.5, 5.0, 8.0, 20.0)
LIKE_A_CARD = 10.0
"""Times as long as the recorded loads, which read hundreds of MiB from the page cache: seconds, as
a load to a card takes. The arrivals stay, so this is no recording any more, and has no target."""


def run(context: Context) -> Result:
    """Replays every trace with every policy."""
    seeds = range(1, context.rounds(8, 2) + 1)
    groups: list[tuple[str, list[Trace], Target | None]] = [
        ("Zipf", [zipf(seed) for seed in seeds], at_most(0.7)),
        ("diurnal, favourites change", [diurnal(seed) for seed in seeds], at_most(1)),
        ("recorded", [recorded()], at_most(1)),
        (f"recorded, loads x {LIKE_A_CARD:g}", [slower(recorded(), LIKE_A_CARD)], None),
    ]
    adversarial = hostile()
    rows = {name: [_all(trace) for trace in traces] for name, traces, _ in groups}
    hard = {trace.name: _all(trace) for trace in adversarial}
    figures = [_figure(name, rows[name], target) for name, _, target in groups]
    figures.append(_figure("adversarial, all together", list(hard.values()), at_most(1)))
    figures.append(_worst(hard))
    figures += [
        _beside(other, rows["Zipf"]) for other in POLICIES if other not in ("Stoker", "LRU")
    ]
    details = {name: [_document(row) for row in found] for name, found in rows.items()}
    return Result("eviction", figures, details={**details, "adversarial": _documents(hard)})


def hostile() -> list[Trace]:
    """What makes caches thrash, at every pace from far too much to hardly anything."""
    turns = [
        alternating(gap, pattern=pattern, room=room) for pattern, room in PATTERNS for gap in GAPS_S
    ]
    return [*turns, stale_favourite(), hot_and_rare()]


def _all(trace: Trace) -> dict[str, Outcome]:
    """One trace by every policy.

    Raises:
        CannotRun: a request was lost, so that no figure of it means anything.
    """
    found = {policy: replay(trace, policy) for policy in POLICIES}
    for policy, outcome in found.items():
        if outcome.answered != len(trace.arrivals):
            raise CannotRun(f"{policy} lost requests of {trace.name}")
    return found


def _figure(name: str, rows: list[dict[str, Outcome]], target: Target | None) -> Figure:
    ours, lru = (sum(row[policy].cold_s for row in rows) for policy in ("Stoker", "LRU"))
    swaps = [sum(row[policy].swaps for row in rows) for policy in ("Stoker", "LRU")]
    longest = [max(row[policy].longest_s for row in rows) for policy in ("Stoker", "LRU")]
    return Figure(
        f"cold wait, {name} ({len(rows)} trace{'s' if len(rows) > 1 else ''}), beside LRU",
        ours,
        "s",
        reference=lru,
        ratio=ours / lru,
        target=target,
        note=f"evictions {swaps[0]} / {swaps[1]}, longest wait {longest[0]:.1f} / "
        f"{longest[1]:.1f} s",
    )


def _worst(rows: dict[str, dict[str, Outcome]]) -> Figure:
    """The adversarial trace that is the least good for us."""

    def ratio(name: str) -> float:
        return rows[name]["Stoker"].cold_s / rows[name]["LRU"].cold_s

    name = max(rows, key=ratio)
    return Figure(
        f"the worst of them: {name}",
        rows[name]["Stoker"].cold_s,
        "s",
        reference=rows[name]["LRU"].cold_s,
        ratio=round(ratio(name), 6),
        target=at_most(1),
    )


def _beside(policy: str, rows: list[dict[str, Outcome]]) -> Figure:
    theirs, lru = (sum(row[name].cold_s for row in rows) for name in (policy, "LRU"))
    return Figure(f"{policy} on Zipf, beside LRU", theirs, "s", reference=lru, ratio=theirs / lru)


def _document(row: dict[str, Outcome]) -> dict[str, object]:
    return {policy: asdict(outcome) for policy, outcome in row.items()}


def _documents(rows: dict[str, dict[str, Outcome]]) -> dict[str, object]:
    return {name: _document(row) for name, row in rows.items()}
