"""What reporters of demand leave behind in the controller."""

from __future__ import annotations

from fake_store import function
from stoker.controller.view import REPORTERS, Live
from stoker.nouns.record import Demand


def demand(answered: int) -> Demand:
    return Demand(
        in_flight=0,
        waiting=0,
        oldest_wait_s=0.0,
        arrivals=answered,
        last_active=1.0,
        answered=answered,
        by_replica={},
    )


def test_reporters_that_come_and_go_do_not_pile_up() -> None:
    live = Live(function())
    for number in range(3 * REPORTERS):
        live.see(
            {"g0": demand(number), f"graph-{number}.0": demand(1)}, now=float(number), epoch=1.0
        )
    assert len(live.reported) <= REPORTERS + 1
    assert live.reported["g0"] == 3 * REPORTERS - 1


def test_a_reporter_that_rested_is_not_counted_twice() -> None:
    live = Live(function())
    live.see({"graph-a.0": demand(5)}, now=0.0, epoch=1.0)
    live.see({}, now=0.0, epoch=1.0)
    live.see({"graph-a.0": demand(7)}, now=0.0, epoch=1.0)
    assert live.answered == 7
