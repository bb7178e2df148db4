"""A clock that somebody sets, and what is measured while it is set."""

from __future__ import annotations

from typing import Any

from stoker.nouns.record import FunctionState

ZERO = {
    "minReplicas": 0,
    "scaleToZero": {"scaleResources": [{"metricName": "x", "windowSize": "10s"}]},
}
HOUR_S = 3600.0


def set_clock(stage: Any, by_s: float, monkeypatch: Any) -> None:
    usual = type(stage.clock).epoch
    monkeypatch.setattr(type(stage.clock), "epoch", lambda clock: usual(clock) + by_s)


def test_a_clock_that_is_set_back_keeps_no_replica(stage: Any, monkeypatch: Any) -> None:
    """The last request lay in the future then, and for an hour nothing was idle."""
    replica = stage.serve(**ZERO)
    stage.demand(arrivals=1)
    last = stage.clock.epoch()
    set_clock(stage, -HOUR_S, monkeypatch)
    stage.demand(arrivals=1, last_active=last - HOUR_S)
    stage.after(9)
    assert not replica.draining
    stage.demand(arrivals=1, last_active=last - HOUR_S)
    stage.after(1.5)
    assert replica.draining


def test_a_clock_that_is_set_forward_ends_no_replica_early(stage: Any, monkeypatch: Any) -> None:
    replica = stage.serve(**ZERO)
    stage.demand(arrivals=1)
    set_clock(stage, HOUR_S, monkeypatch)
    stage.quiet()
    stage.after(9)
    assert not replica.draining


def test_a_wake_that_came_too_late_for_whoever_asked_is_not_counted(stage: Any) -> None:
    """Its request had got 503; of what counts is shown what the next one has to expect."""
    replica = stage.serve(readinessTimeoutSeconds=20, **ZERO)
    stage.quiet()
    stage.after(11)
    stage.dies(replica, status=0)
    stage.wake()
    stage.started(stage.replica())
    stage.after(15)
    stage.dies(stage.replica())
    stage.after(10)
    stage.started(stage.replica())
    stage.ready(stage.replica())
    assert stage.record().state is FunctionState.READY
    assert stage.record().wake_p90_s is None


def test_a_load_is_measured_by_the_clock_that_nobody_sets(stage: Any, monkeypatch: Any) -> None:
    """Evictions go by it: a load of an hour would have kept the function's bytes from everybody."""
    number = stage.deploy(**ZERO)
    stage.built(number)
    stage.started(stage.replica())
    stage.after(2)
    set_clock(stage, HOUR_S, monkeypatch)
    stage.ready(stage.replica())
    assert list(stage.world.functions["fn"].loads) == [2.0]


def test_a_request_that_came_before_the_first_deploy_was_over_is_no_wake(stage: Any) -> None:
    """Its build took minutes, and ``Retry-After`` said so of every wake from then on."""
    number = stage.deploy(**ZERO)
    stage.wake()
    stage.after(300)
    stage.built(number)
    stage.started(stage.replica())
    stage.ready(stage.replica())
    assert stage.record().serving.number == number
    assert stage.record().wake_p90_s is None
    stage.quiet()
    stage.after(11)
    stage.dies(stage.replica(), status=0)
    stage.wake()
    stage.started(stage.replica())
    stage.after(0.5)
    stage.ready(stage.replica())
    assert stage.record().wake_p90_s == 0.5
