"""What the reconciler keeps right through lost stores, namesakes, crash loops and its own bugs."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.controller.happenings import (
    BuildFailed,
    DemandUnknown,
    FunctionSeen,
    Snapshot,
    Tick,
)
from stoker.nouns.record import FunctionRecord, FunctionState, Phase, Revision

ZERO = {
    "minReplicas": 0,
    "maxReplicas": 3,
    "scaleToZero": {"scaleResources": [{"metricName": "x", "windowSize": "10s"}]},
}
TWO_WORKERS = {"triggers": {"http": {"kind": "http", "numWorkers": 2}}}


def away(stage: Any, seconds: float) -> None:
    """The store is away: ticks, and no demand."""
    for _ in range(int(seconds * 4)):
        stage.happen(DemandUnknown())
        stage.after(0.25)


def namesake(number: int = 1) -> FunctionRecord:
    document = {"metadata": {"name": "fn"}, "spec": {}}
    return FunctionRecord(
        name="fn",
        candidate=Revision(number=number, document=document),
        last_revision=number,
        created_at=99.0,
    )


def fail_first(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, function: str) -> None:
    """``owner.name`` raises for one function's things."""
    whole = getattr(owner, name)

    def trip(subject: Any, *rest: Any) -> Any:
        if subject.function == function:
            raise ZeroDivisionError("an odd value")
        return whole(subject, *rest)

    monkeypatch.setattr(owner, name, trip)


# The store goes away and comes back


def test_traffic_that_nobody_can_report_keeps_its_workers_warm(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    stage.demand(arrivals=5)
    away(stage, 60)
    assert not replica.draining


def test_the_first_demand_after_an_outage_is_no_proof_of_idleness(stage: Any) -> None:
    """The gateways' reports have expired by then: the first read is empty."""
    replica = stage.serve(**ZERO)
    stage.demand(arrivals=5)
    away(stage, 60)
    stage.quiet()
    stage.after(9)
    assert not replica.draining
    stage.after(1.5)
    assert replica.draining


def test_a_connection_that_was_lost_gives_every_function_its_window_anew(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    stage.quiet()
    stage.after(9)
    functions, replicas = dict(stage.effects.functions), dict(stage.effects.replicas)
    stage.happen(Snapshot(functions, replicas, after_loss=True))
    stage.after(9)
    assert not replica.draining


def test_activity_outlives_the_report_that_told_of_it(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    stage.after(8)
    stage.demand()
    stage.demand(last_active=1.0)
    stage.quiet()
    stage.after(9)
    assert not replica.draining
    stage.after(1.5)
    assert replica.draining


def test_an_empty_redis_does_not_revive_what_was_deleted(stage: Any) -> None:
    stage.serve()
    del stage.effects.functions["fn"]
    stage.happen(FunctionSeen("fn", None))
    stage.happen(Snapshot({}, {}, after_loss=True))
    assert stage.effects.functions == {}


# Namesakes, and what the deleted leave behind


def test_a_function_recreated_while_nobody_watched_is_a_new_one(stage: Any) -> None:
    old = stage.serve()
    stage.effects.functions["fn"] = namesake()
    stage.happen(Snapshot(dict(stage.effects.functions), dict(stage.effects.replicas)))
    assert old.draining
    assert stage.effects.removed_traces == ["fn"], "what was recorded of the old one is not its"
    assert stage.effects.builds == [1, 1]
    stage.built(1)
    new = next(r for r in stage.world.replicas_of("fn") if not r.draining)
    stage.started(new)
    stage.ready(new)
    record = stage.record()
    assert (record.state, record.serving.number) == (FunctionState.READY, 1)


def test_a_late_reading_of_the_deleted_namesake_changes_nothing(stage: Any) -> None:
    stage.serve()
    before = stage.record()
    stage.effects.functions["fn"] = namesake()
    stage.happen(FunctionSeen("fn", stage.record()))
    stage.happen(FunctionSeen("fn", before))
    assert stage.world.functions["fn"].record.created_at == 99.0
    assert stage.effects.builds == [1, 1]


def test_a_change_meant_for_the_deleted_never_reaches_its_namesake(stage: Any) -> None:
    stage.serve()
    stage.effects.functions["fn"] = namesake()
    stage.world.tell("fn", "killed by SIGSEGV")
    assert stage.effects.functions["fn"] == namesake()


def test_replicas_of_a_function_deleted_without_a_controller_are_drained(gpus: Any) -> None:
    replica = gpus.serve(resources={"limits": {"nvidia.com/gpu": 1}})
    kept = gpus.serve("kept")
    del gpus.effects.functions["fn"]
    other = gpus.restart_controller()
    assert other.effects.drained == [(replica.id, 0)]
    assert not other.world.replicas[kept.id].draining
    other.dies(other.world.replicas[replica.id], status=0)
    other.after(0.25)
    assert set(other.world.ledger.used().values()) == {0}
    assert other.effects.removed_code == [("fn", frozenset())]


def test_code_without_a_record_is_removed_and_other_code_is_not(stage: Any) -> None:
    stage.serve()
    functions, replicas = dict(stage.effects.functions), dict(stage.effects.replicas)
    code = frozenset({"fn", "gone", "odd"})
    stage.happen(Snapshot(functions, replicas, unreadable=frozenset({"odd"}), code=code))
    assert [removal for removal in stage.effects.removed_code if not removal[1]] == [
        ("gone", frozenset())
    ]


def test_a_redis_without_any_record_costs_nobody_his_code(stage: Any) -> None:
    stage.happen(Snapshot({}, {}, code=frozenset({"fn"})))
    stage.after(1)
    assert stage.effects.removed_code == []


def test_a_record_that_cannot_be_read_is_no_deletion(stage: Any) -> None:
    replica = stage.serve()
    odd = frozenset({"fn"})
    stage.happen(Snapshot({}, dict(stage.effects.replicas), unreadable=odd))
    stage.after(1)
    assert not replica.draining
    assert stage.world.functions["fn"].deleted is False


def test_a_new_controller_keeps_the_workers_of_a_record_it_cannot_read(stage: Any) -> None:
    replica = stage.serve()
    replicas = dict(stage.effects.replicas)
    stage.effects.functions.clear()
    stage.effects.replicas.clear()
    other = stage.restart_controller()
    odd = frozenset({"fn"})
    other.happen(Snapshot({}, replicas, unreadable=odd))
    other.after(1)
    assert not other.world.replicas[replica.id].draining
    other.happen(FunctionSeen("fn", None))
    other.after(0.25)
    assert other.world.replicas[replica.id].draining


def test_of_the_candidates_that_failed_only_the_last_ones_code_stays(stage: Any) -> None:
    """A pipeline that fails every night filled the disk."""
    stage.serve()
    for _ in range(3):
        number = stage.deploy()
        stage.happen(BuildFailed("fn", number, "no such handler"))
    assert stage.effects.removed_code[-1] == ("fn", frozenset({1, 4}))
    stage.deploy()
    number = stage.deploy()
    stage.happen(BuildFailed("fn", number, "no such handler"))
    assert stage.effects.removed_code[-1] == ("fn", frozenset({1, 6}))


# Crash loops


def crash_at_start(stage: Any, replica: Any, seconds: float) -> int:
    """Worker 0 fails whenever it starts, beside a sibling that answers; how often it did."""
    crashes, answered = 0, 0
    for _ in range(int(seconds * 4)):
        answered += 5
        stage.demand(answered=answered)
        slot = replica.slots[0]
        if slot.running:
            stage.started(replica)
            stage.dies(replica, 0)
            crashes += 1
        stage.after(0.25)
    return crashes


def test_a_worker_that_never_gets_ready_is_given_up_beside_a_busy_sibling(stage: Any) -> None:
    replica = stage.serve(**TWO_WORKERS)
    assert crash_at_start(stage, replica, 9) <= 6
    assert "crash loop" in stage.log()
    assert stage.record().state is FunctionState.READY


def test_a_worker_that_dies_right_after_ready_is_not_saved_by_its_siblings_answers(
    stage: Any,
) -> None:
    replica = stage.serve(**TWO_WORKERS)
    for answered in range(5, 100, 5):
        stage.demand(answered=answered)
        stage.started(replica)
        if replica.slots[0].running:
            stage.state(replica, 0, "ready")
            stage.dies(replica, 0)
        stage.after(0.5)
    assert "crash loop" in stage.log()


def test_one_crash_each_of_many_workers_is_no_loop(stage: Any) -> None:
    eight = {"triggers": {"http": {"kind": "http", "numWorkers": 8}}}
    replica = stage.serve(**eight)
    for index in range(8):
        stage.dies(replica, index)
    stage.started(replica)
    stage.ready(replica)
    assert replica.all_ready
    assert "crash loop" not in stage.log()


def test_a_worker_given_up_beside_a_living_sibling_is_tried_again_after_the_pause(
    stage: Any,
) -> None:
    replica = stage.serve(**TWO_WORKERS)
    crash_at_start(stage, replica, 9)
    assert not replica.slots[0].running
    stage.after(11)
    assert replica.slots[0].running
    stage.started(replica)
    stage.ready(replica)
    assert replica.all_ready


def test_a_restarted_gateway_counts_from_nought_and_its_answers_still_count(stage: Any) -> None:
    replica = stage.serve()
    stage.demand(answered=1_000_000)
    stage.dies(replica)
    stage.demand(answered=0)
    for answered in range(1, 10):
        stage.after(1)
        stage.started(replica)
        stage.ready(replica)
        stage.demand(answered=answered)
        stage.dies(replica)
    assert stage.world.functions["fn"].answered == 1_000_009
    assert stage.record().state is FunctionState.READY
    assert "crash loop" not in stage.log()


# What the record shows


def test_a_restarted_controller_does_not_tell_of_a_scale_from_zero(stage: Any) -> None:
    stage.serve()
    before = stage.record()
    other = stage.restart_controller()
    other.after(1)
    after = other.record()
    assert (after.state, after.last_scale_event) == (before.state, before.last_scale_event)


def failed_beside(stage: Any) -> Any:
    replica = stage.serve(**ZERO)
    number = stage.deploy(**ZERO)
    stage.happen(BuildFailed("fn", number, "no such package"))
    assert stage.record().state is FunctionState.ERROR
    return replica


def test_scaling_is_told_while_a_failed_candidate_stands(stage: Any) -> None:
    replica = failed_beside(stage)
    stamp = stage.record().updated_at
    stage.quiet()
    stage.after(10.5)
    assert stage.record().last_scale_event == "scaleToZeroStarted"
    stage.dies(replica, status=0)
    assert stage.record().last_scale_event == "scaleToZeroCompleted"
    stage.wake()
    new = stage.replica()
    stage.clock.time += 0.08
    stage.started(new)
    stage.ready(new)
    record = stage.record()
    assert record.last_scale_event == "scaleFromZeroCompleted"
    assert record.wake_p90_s == pytest.approx(0.08)
    assert (record.state, record.message) == (FunctionState.ERROR, "no such package")
    assert record.updated_at == stamp, "the failure did not happen again"


def test_a_failed_deployment_is_no_scale_event_of_what_serves(stage: Any) -> None:
    failed_beside(stage)
    stage.after(2)
    assert stage.record().last_scale_event == "resourceUpdated"


def test_the_wakes_percentile_is_asked_of_an_absent_store_once(stage: Any) -> None:
    stage.serve(**ZERO)
    stage.world.functions["fn"].wakes.append(0.08)
    stage.effects.store_is_away = True
    writes = len(stage.effects.writes)
    stage.after(5)
    assert len(stage.effects.writes) == writes + 1


def test_a_change_that_changed_nothing_is_not_stamped(stage: Any) -> None:
    stage.serve()
    before = stage.record()
    stage.clock.time += 5
    stage.world.change("fn", lambda record: record)
    assert stage.record() is before


def test_a_deployment_goes_on_with_the_replica_of_the_controller_before(stage: Any) -> None:
    number = stage.deploy()
    stage.built(number)
    replica = stage.replica()
    stage.started(replica)
    other = stage.restart_controller()
    other.built(number)
    other.after(1)
    assert other.effects.launches == []
    other.ready(other.replica())
    assert other.record().state is FunctionState.READY
    assert other.replica().id == replica.id


# Its own bugs


def test_an_event_that_cannot_be_taken_does_not_end_the_controller(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = stage.serve("odd")

    def trip(*_: Any) -> None:
        raise ZeroDivisionError("an odd value")

    monkeypatch.setattr(stage.reconciler._workers, "exited", trip)
    monkeypatch.setattr(stage.reconciler._workers, "gone", trip)
    stage.dies(replica)
    stage.dies(replica)
    assert stage.log("odd").count("an odd value") == 1
    assert stage.record("odd").state is FunctionState.READY
    monkeypatch.undo()
    stage.dies(replica)
    assert "killed by SIGSEGV; replaced" in stage.log("odd")


def test_one_functions_bug_does_not_stop_the_time_of_the_others(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, good = stage.serve("odd"), stage.serve("good", **ZERO)
    fail_first(monkeypatch, stage.reconciler._workers, "look", "odd")
    fail_first(monkeypatch, stage.reconciler.replicas, "press", "odd")
    stage.quiet()
    stage.after(21)
    assert odd.phase is Phase.READY
    assert stage.effects.killed[0][0] == good.id
    assert "an odd value" in stage.log("odd")


def test_an_adoption_that_fails_leaves_the_other_replicas_adopted(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.serve("odd")
    good = stage.serve("good")
    other = type(stage)({})
    fail_first(monkeypatch, other.reconciler.replicas, "adopt", "odd")
    other.happen(Snapshot(dict(stage.effects.functions), dict(stage.effects.replicas)), Tick())
    assert good.id in other.world.replicas
    assert "good" not in [launch.function for launch in other.effects.launches]
