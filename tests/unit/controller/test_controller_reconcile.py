"""Behaviours of the reconciler, told with fake verbs and a clock that stands."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from stoker.controller.happenings import (
    BuildFailed,
    FunctionSeen,
    OverMemory,
    Snapshot,
    StartRefused,
    WorkerGone,
    WorkerStarted,
)
from stoker.nouns.record import FunctionState, Phase

ZERO = {
    "minReplicas": 0,
    "maxReplicas": 3,
    "scaleToZero": {"scaleResources": [{"metricName": "x", "windowSize": "10s"}]},
}
TWO_WORKERS = {"triggers": {"http": {"kind": "http", "numWorkers": 2}}}


def gpu(count: int = 1, **env: str) -> dict[str, Any]:
    return {
        "resources": {"limits": {"nvidia.com/gpu": count}},
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }


def to_zero(stage: Any, replica: Any) -> None:
    stage.quiet()
    stage.after(10.5)
    for slot in replica.slots:
        stage.dies(replica, slot.index, status=0)
    assert stage.record().state is FunctionState.SCALED_TO_ZERO


# Deploying


def test_a_deployment_serves_once_all_its_workers_are_ready(stage: Any) -> None:
    number = stage.deploy(**TWO_WORKERS)
    assert stage.record().state is FunctionState.BUILDING
    stage.built(number)
    replica = stage.replica()
    stage.started(replica)
    stage.state(replica, 0, "ready")
    assert stage.record().state is FunctionState.CONFIGURING
    stage.state(replica, 1, "ready")
    record = stage.record()
    assert (record.state, record.candidate) == (FunctionState.READY, None)
    assert record.serving is not None
    assert record.serving.code_dir == "/code/fn/1"


def test_a_function_that_may_go_to_zero_is_ready_after_its_deployment_all_the_same(
    stage: Any,
) -> None:
    stage.serve(**ZERO)
    assert stage.record().state is FunctionState.READY


def test_a_replica_is_announced_once_when_its_last_worker_was_forked(stage: Any) -> None:
    stage.built(stage.deploy(**TWO_WORKERS))
    replica = stage.replica()
    stage.happen(WorkerStarted(replica.id, 0, 41))
    assert stage.effects.puts == []
    stage.happen(WorkerStarted(replica.id, 1, 42))
    assert [worker.pid for worker in stage.effects.replicas[replica.id].workers] == [41, 42]


def test_a_redeployment_is_ready_before_the_old_revision_drains(stage: Any) -> None:
    old = stage.serve()
    stage.built(stage.deploy())
    (new,) = stage.world.replicas_of("fn", 2)
    stage.started(new)
    assert not old.draining
    stage.ready(new)
    assert old.draining
    assert not new.draining
    assert stage.effects.drained == [(old.id, 0)]
    assert ("fn", frozenset({2})) not in stage.effects.removed_code
    stage.dies(old, status=0)
    assert stage.effects.removed_code[-1] == ("fn", frozenset({2}))


def test_the_old_revision_stays_until_the_store_has_confirmed_the_switch(stage: Any) -> None:
    old = stage.serve()
    stage.built(stage.deploy())
    (new,) = stage.world.replicas_of("fn", 2)
    stage.started(new)
    stage.effects.store_is_away = True
    stage.ready(new)
    stage.after(1)
    assert not old.draining
    assert not new.draining


def test_a_redeployed_idle_function_is_given_its_whole_window(stage: Any) -> None:
    stage.serve(**ZERO)
    stage.quiet()
    stage.after(9)
    new = stage.deploy(**ZERO)
    stage.built(new)
    (replica,) = stage.world.replicas_of("fn", new)
    stage.started(replica)
    stage.ready(replica)
    stage.after(9)
    assert not replica.draining


def test_an_old_revision_takes_the_requests_until_the_new_one_is_ready_again(
    stage: Any,
) -> None:
    old = stage.serve()
    stage.built(stage.deploy())
    (new,) = stage.world.replicas_of("fn", 2)
    stage.started(new)
    before = dict(stage.effects.replicas)
    stage.ready(new)
    stage.effects.replicas = before
    other = stage.restart_controller()
    adopted_old, adopted_new = other.world.replicas[old.id], other.world.replicas[new.id]
    other.ready(adopted_old)
    assert not adopted_old.draining
    other.ready(adopted_new)
    assert adopted_old.draining


def test_a_failed_init_leaves_the_old_revision_serving(stage: Any) -> None:
    old = stage.serve()
    stage.built(stage.deploy())
    (new,) = stage.world.replicas_of("fn", 2)
    stage.started(new)
    trace = "Traceback (most recent call last):\n  File x\nKeyError: 'weights'"
    stage.state(new, 0, "failed", error=trace)
    stage.dies(new, status=1)
    record = stage.record()
    assert record.state is FunctionState.UNHEALTHY
    assert record.serving is not None
    assert (record.serving.number, record.candidate.number) == (1, 2)
    assert record.message.endswith("KeyError: 'weights'")
    assert trace in stage.log()
    stage.after(60)
    assert stage.world.replicas_of("fn") == [old]
    assert not old.draining


def test_a_failed_build_is_an_error_and_starts_nothing(stage: Any) -> None:
    number = stage.deploy()
    stage.happen(BuildFailed("fn", number, "pip install failed (exit code 1)"))
    stage.after(5)
    assert stage.record().state is FunctionState.ERROR
    assert stage.record().message == "pip install failed (exit code 1)"
    assert stage.effects.launches == []


def test_a_worker_that_exits_in_its_import_fails_the_deployment_with_its_code(stage: Any) -> None:
    stage.built(stage.deploy())
    replica = stage.replica()
    stage.started(replica)
    stage.dies(replica, status=3)
    assert stage.record().state is FunctionState.UNHEALTHY
    assert "ended with exit code 3" in stage.record().message


def test_a_start_that_takes_too_long_fails_the_deployment_and_the_worker_is_killed(
    stage: Any,
) -> None:
    stage.built(stage.deploy(readinessTimeoutSeconds=5))
    replica = stage.replica()
    stage.started(replica)
    stage.after(5.25)
    assert (replica.id, 0, replica.slots[0].pid, signal.SIGKILL) in stage.effects.killed
    stage.dies(replica, status=-9)
    assert stage.record().state is FunctionState.UNHEALTHY
    assert "not ready within 5 s" in stage.record().message
    assert stage.world.replicas == {}


def test_the_newest_candidate_wins_and_the_older_ones_processes_end(stage: Any) -> None:
    stage.built(stage.deploy())
    first = stage.replica()
    stage.started(first)
    second = stage.deploy()
    assert stage.effects.stopped_builds == ["fn"]
    assert any(kill[0] == first.id for kill in stage.effects.killed)
    stage.built(1)
    assert [launch.revision for launch in stage.effects.launches] == [1]
    stage.built(second)
    assert [launch.revision for launch in stage.effects.launches] == [1, 2]


def test_a_failed_deployment_is_not_tried_again_by_the_next_controller(stage: Any) -> None:
    number = stage.deploy()
    stage.happen(BuildFailed("fn", number, "no"))
    other = stage.restart_controller()
    other.after(5)
    assert other.effects.builds == []


def test_a_build_that_a_dead_controller_left_is_begun_anew(stage: Any) -> None:
    stage.deploy()
    assert stage.restart_controller().effects.builds == [1]


def test_a_record_read_before_the_switch_and_seen_after_it_changes_nothing(stage: Any) -> None:
    stage.serve()
    stage.built(stage.deploy())
    (new,) = stage.world.replicas_of("fn", 2)
    stage.started(new)
    stale = stage.record()
    stage.ready(new)
    stage.happen(FunctionSeen("fn", stale))
    assert not new.draining
    assert stage.effects.builds == [1, 2]


def test_a_disabled_function_is_built_but_never_started(stage: Any) -> None:
    stage.built(stage.deploy(disable=True))
    stage.wake()
    stage.after(5)
    assert stage.effects.launches == []
    assert stage.record().state is FunctionState.SCALED_TO_ZERO


def test_triggers_that_do_nothing_here_are_named_in_the_deploy_log(stage: Any) -> None:
    stage.deploy(triggers={"bus": {"kind": "kafka-cluster"}})
    assert "trigger 'bus' of kind 'kafka-cluster' is kept but does nothing here" in stage.log()


# Waking and scaling


def test_many_asks_make_one_wake(stage: Any) -> None:
    to_zero(stage, stage.serve(**ZERO))
    before = len(stage.effects.launches)
    for _ in range(50):
        stage.wake()
        stage.demand(waiting=50)
    assert len(stage.effects.launches) == before + 1


def test_a_wake_is_measured_from_the_first_ask_and_shown_as_p90(stage: Any) -> None:
    to_zero(stage, stage.serve(**ZERO))
    stage.wake()
    stage.clock.time += 0.08
    stage.wake()
    replica = stage.replica()
    stage.started(replica)
    stage.ready(replica)
    assert stage.record().wake_p90_s == pytest.approx(0.08)
    assert stage.record().state is FunctionState.READY
    assert stage.record().last_scale_event == "scaleFromZeroCompleted"


def test_an_idle_function_goes_to_zero_after_its_window_and_not_before(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    stage.demand()
    stage.after(9.5)
    assert not replica.draining
    stage.quiet()
    stage.after(1)
    assert replica.draining
    assert stage.record().state is FunctionState.SCALING_TO_ZERO


def test_a_slow_starter_is_not_idled_before_it_ever_served(stage: Any) -> None:
    """kserve#1247: the idle timer killed a model that was still loading."""
    to_zero(stage, stage.serve(**ZERO))
    stage.wake()
    replica = stage.replica()
    stage.started(replica)
    stage.after(30)
    assert not replica.draining
    stage.ready(replica)
    stage.after(9)
    assert not replica.draining


def test_sustained_queueing_adds_replicas_up_to_the_maximum(stage: Any) -> None:
    stage.serve(**ZERO)
    stage.demand(in_flight=1, waiting=9)
    assert len(stage.world.replicas) == 1
    stage.after(1)
    assert len(stage.world.replicas) == 3


def scaled_out(stage: Any) -> list[Any]:
    stage.serve(**ZERO)
    stage.demand(in_flight=1, waiting=9)
    stage.after(1)
    replicas = stage.world.replicas_of("fn")
    for replica in replicas[1:]:
        stage.clock.time += 1
        stage.started(replica)
        stage.ready(replica)
    return list(replicas)


def test_scaling_down_never_picks_a_busy_replica(stage: Any) -> None:
    replicas = scaled_out(stage)
    youngest, began = replicas[-1], stage.clock.epoch()
    for _ in range(100):
        stage.demand(in_flight=1, by_replica={youngest.id: 1}, last_active=began)
        stage.after(0.25)
    assert not youngest.draining
    assert [replica.draining for replica in replicas] == [True, True, False]


def test_scaling_down_waits_while_nobody_knows_which_replica_is_busy(stage: Any) -> None:
    replicas, began = scaled_out(stage), stage.clock.epoch()
    for _ in range(100):
        stage.demand(in_flight=1, last_active=began)
        stage.after(0.25)
    assert not any(replica.draining for replica in replicas)


def test_asking_for_zero_ends_it_at_once_and_the_next_demand_takes_it_back(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    sleeping = stage.record().model_copy(update={"desired_zero": True})
    stage.effects.functions["fn"] = sleeping
    stage.happen(FunctionSeen("fn", sleeping))
    assert replica.draining
    stage.wake()
    assert stage.record().desired_zero is False


def test_a_wake_during_a_drain_starts_a_new_replica_at_once(stage: Any) -> None:
    old = stage.serve(**ZERO)
    stage.quiet()
    stage.after(10.5)
    assert old.draining
    stage.wake()
    new = next(r for r in stage.world.replicas.values() if r is not old)
    assert not new.draining


def test_a_worker_that_does_not_drain_is_terminated_then_killed(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    stage.quiet()
    stage.after(10.5)
    assert stage.effects.killed == []
    stage.after(10)
    assert [kill[3] for kill in stage.effects.killed] == [signal.SIGTERM]
    stage.after(2.25)
    assert stage.effects.killed[-1][3] == signal.SIGKILL
    stage.dies(replica, status=-9)
    assert stage.world.replicas == {}


# Crashes


def test_the_first_crash_is_replaced_at_once_in_the_same_replica(stage: Any) -> None:
    replica = stage.serve()
    stage.dies(replica, status=-11)
    assert len(stage.effects.launches) == 2
    assert stage.effects.launches[-1].replica == replica.id
    assert "killed by SIGSEGV; replaced" in stage.log()
    assert stage.effects.worker_logs == ["the worker is gone: killed by SIGSEGV"]
    assert stage.record().state is FunctionState.READY


def test_a_crash_loop_ends_unhealthy_with_its_reason_and_does_not_spin(stage: Any) -> None:
    replica = stage.serve()
    for _ in range(10):
        stage.started(replica)
        stage.dies(replica, status=-9)
        stage.after(3)
        if stage.record().state is FunctionState.UNHEALTHY:
            break
    launches = len(stage.effects.launches)
    assert launches == 5
    assert stage.record().state is FunctionState.UNHEALTHY
    assert "killed by SIGKILL (out of memory?)" in stage.record().message
    for _ in range(10):
        stage.wake()
    assert len(stage.effects.launches) == launches


def looping(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    for _ in range(5):
        stage.started(replica)
        stage.dies(replica, status=3)
        stage.after(1)
    assert stage.record().state is FunctionState.UNHEALTHY


def test_an_explicit_wake_tries_a_crash_loop_again_once(stage: Any) -> None:
    looping(stage)
    stage.after(6)
    launches = len(stage.effects.launches)
    stage.wake()
    stage.wake()
    assert len(stage.effects.launches) == launches + 1


def test_a_crash_loop_is_open_to_demand_again_after_its_pause(stage: Any) -> None:
    looping(stage)
    stage.after(11)
    assert stage.record().state is FunctionState.SCALED_TO_ZERO


def test_a_new_revision_ends_a_crash_loop(stage: Any) -> None:
    looping(stage)
    stage.built(stage.deploy())
    (new,) = stage.world.replicas_of("fn", 2)
    stage.started(new)
    stage.ready(new)
    assert stage.record().state is FunctionState.READY


def test_served_requests_between_crashes_make_no_crash_loop(stage: Any) -> None:
    replica = stage.serve()
    for answered in range(1, 20):
        stage.demand(answered=answered)
        stage.dies(replica, status=-11)
        stage.after(0.5)
        stage.started(replica)
        stage.ready(replica)
    assert stage.record().state is FunctionState.READY


def test_a_worker_past_its_event_timeout_is_replaced_and_the_log_says_so(stage: Any) -> None:
    replica = stage.serve()
    stage.dies(replica, status=-signal.SIGALRM)
    assert "handler ran past eventTimeout" in stage.log()
    assert len(stage.effects.launches) == 2


def test_a_worker_over_its_memory_is_killed_for_that_reason(stage: Any) -> None:
    replica = stage.serve()
    stage.happen(OverMemory(replica.id, 0, "held 2 GiB: over its limit of 1 GiB"))
    stage.happen(OverMemory(replica.id, 0, "held 2 GiB: over its limit of 1 GiB"))
    assert [kill[3] for kill in stage.effects.killed] == [signal.SIGKILL]
    stage.dies(replica, status=-9)
    assert "over its limit of 1 GiB" in stage.log()


def test_a_closed_connection_without_an_exit_word_is_settled_after_a_moment(stage: Any) -> None:
    replica = stage.serve()
    stage.happen(WorkerGone(replica.id, 0))
    assert len(stage.effects.launches) == 1
    stage.after(0.75)
    assert len(stage.effects.launches) == 2


def test_a_start_lost_with_its_zygote_is_nobodys_crash(stage: Any) -> None:
    to_zero(stage, stage.serve(**ZERO))
    stage.wake()
    lost = stage.replica()
    stage.happen(StartRefused(lost.id, 0, "died", zygote_lost=True))
    stage.after(0.5)
    assert stage.replica().id != lost.id
    assert stage.world.functions["fn"].crashes == []


def test_a_worker_whom_nobody_wants_any_more_is_ended_when_it_was_forked(stage: Any) -> None:
    stage.built(stage.deploy())
    replica = stage.replica()
    stage.deploy()
    stage.happen(WorkerStarted(replica.id, 0, 777))
    assert (replica.id, 0, 777, signal.SIGKILL) in stage.effects.killed


# Restarts of the controller, loss of the store


def test_a_restarted_controller_adopts_running_workers_and_starts_none(stage: Any) -> None:
    replica = stage.serve(**TWO_WORKERS)
    pids = [slot.pid for slot in replica.slots]
    other = stage.restart_controller()
    adopted = other.replica()
    other.ready(adopted)
    other.after(5)
    assert [slot.pid for slot in adopted.slots] == pids
    assert other.effects.launches == []
    assert other.record().state is FunctionState.READY


def test_a_replica_that_died_without_a_controller_is_replaced_without_blame(stage: Any) -> None:
    replica = stage.serve()
    other = stage.restart_controller()
    other.happen(WorkerGone(replica.id, 0))
    assert replica.id not in other.effects.replicas
    assert len(other.effects.launches) == 1
    assert other.world.functions["fn"].crashes == []


def test_an_adopted_draining_replica_goes_on_draining(stage: Any) -> None:
    replica = stage.serve(**ZERO)
    stage.quiet()
    stage.after(10.5)
    other = stage.restart_controller()
    assert other.replica().draining
    assert (replica.id, 0) in other.effects.drained


def test_an_adopted_replica_keeps_its_bytes_of_the_devices(gpus: Any) -> None:
    gpus.serve(**gpu(STOKER_GPU_MEMORY="10MiB"))
    other = gpus.restart_controller()
    assert other.world.ledger.used() == gpus.world.ledger.used()


def test_a_redis_that_came_back_empty_is_filled_again(stage: Any) -> None:
    replica = stage.serve()
    stage.effects.functions.clear()
    stage.effects.replicas.clear()
    stage.happen(Snapshot({}, {}, after_loss=True))
    assert "fn" in stage.effects.functions
    assert replica.id in stage.effects.replicas
    assert not replica.draining


def test_a_function_deleted_while_nobody_watched_is_ended(stage: Any) -> None:
    stage.serve()
    other = stage.serve("other")
    functions = {"other": stage.record("other")}
    stage.happen(Snapshot(functions, dict(stage.effects.replicas)))
    assert stage.world.replicas_of("fn")[0].draining
    assert not other.draining


def test_a_deleted_functions_workers_drain_and_its_code_goes_last(stage: Any) -> None:
    replica = stage.serve()
    del stage.effects.functions["fn"]
    stage.happen(FunctionSeen("fn", None))
    assert replica.draining
    assert ("fn", frozenset()) not in stage.effects.removed_code
    stage.dies(replica, status=0)
    stage.after(0.25)
    assert stage.effects.removed_code[-1] == ("fn", frozenset())
    assert stage.world.functions == {}


def test_shutting_down_drains_everything_and_starts_nothing(stage: Any) -> None:
    replica = stage.serve()
    assert stage.reconciler.stop_all(drain=True) == 10.0
    stage.dies(replica, status=0)
    stage.wake()
    stage.after(1)
    assert stage.effects.replicas == {}
    assert len(stage.effects.launches) == 1


# Devices


def test_workers_are_pinned_to_their_devices(gpus: Any) -> None:
    gpus.built(gpus.deploy(**gpu(2), **TWO_WORKERS))
    pinned = [launch.env["CUDA_VISIBLE_DEVICES"] for launch in gpus.effects.launches]
    assert pinned == ["SIM-0", "SIM-1"]


def test_a_card_is_shared_only_when_the_bytes_are_declared(gpus: Any) -> None:
    first = gpus.serve("one", **gpu(STOKER_GPU_MEMORY="6MiB"))
    second = gpus.serve("two", **gpu(STOKER_GPU_MEMORY="6MiB"))
    assert first.devices == second.devices
    third = gpus.serve("whole", **gpu())
    assert third.devices != first.devices


def test_a_redeployment_that_does_not_fit_beside_the_old_one_stops_it_first_and_says_so(
    gpus: Any,
) -> None:
    old = gpus.serve(**gpu(2))
    gpus.built(gpus.deploy(**gpu(2)))
    assert old.draining
    assert "stopping the old one first (Recreate)" in gpus.log()
    gpus.dies(old, status=0)
    gpus.after(0.25)
    new = gpus.replica()
    gpus.started(new)
    gpus.ready(new)
    assert gpus.record().state is FunctionState.READY
    assert gpus.record().serving.number == 2


def test_a_function_larger_than_the_home_is_an_error_not_a_wait(gpus: Any) -> None:
    old = gpus.serve()
    gpus.built(gpus.deploy(**gpu(3)))
    assert gpus.record().state is FunctionState.ERROR
    assert "needs 3 GPU(s)" in gpus.record().message
    assert not old.draining


def test_a_deployment_waits_for_bytes_that_another_function_holds(gpus: Any) -> None:
    other = gpus.serve("other", **gpu(2), **ZERO)
    gpus.built(gpus.deploy(**gpu(1)))
    assert f"waiting for GPU memory held by {other.id}" in gpus.log()
    gpus.quiet()
    gpus.after(10.5)
    gpus.dies(other, status=0)
    gpus.after(0.25)
    assert len(gpus.world.replicas_of("fn")) == 1


def test_the_ledger_is_free_again_only_when_the_processes_are_gone(gpus: Any) -> None:
    replica = gpus.serve(**gpu(2), **ZERO)
    gpus.quiet()
    gpus.after(10.5)
    assert sum(gpus.world.ledger.free().values()) == 0
    gpus.dies(replica, status=0)
    assert sum(gpus.world.ledger.free().values()) == 32 * 1024**2


def test_a_function_asking_for_gpus_in_a_home_without_runs_on_the_cpu_and_says_so(
    stage: Any,
) -> None:
    replica = stage.serve(**gpu(1))
    assert replica.phase is Phase.READY
    assert "runs on the CPU" in stage.log()
    assert stage.effects.launches[0].env["CUDA_VISIBLE_DEVICES"] == ""


def test_a_state_is_written_when_it_changes_and_not_at_every_tick(stage: Any) -> None:
    stage.serve()
    writes = len(stage.effects.writes)
    stage.after(60)
    assert len(stage.effects.writes) == writes


def test_a_state_that_the_store_cannot_take_now_is_asked_of_it_once(stage: Any) -> None:
    stage.serve(**ZERO)
    stage.quiet()
    writes = len(stage.effects.writes)
    stage.effects.store_is_away = True
    stage.after(20)
    assert len(stage.effects.writes) == writes + 1


def test_a_function_that_cannot_be_handled_is_in_error_and_the_others_go_on(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One odd value in one function took the whole controller down, again at every restart."""
    stage.serve("good", **ZERO)
    whole = type(stage.reconciler._scaler).advance

    def trip(scaler: Any, live: Any) -> None:
        if live.name == "odd":
            raise ZeroDivisionError("an odd value")
        whole(scaler, live)

    monkeypatch.setattr(type(stage.reconciler._scaler), "advance", trip)
    stage.deploy("odd")
    stage.after(2)
    record = stage.record("odd")
    assert (record.state, "an odd value" in record.message) == (FunctionState.ERROR, True)
    assert sum("an odd value" in line.message for line in record.logs) == 1
    assert stage.record("good").state is FunctionState.READY
