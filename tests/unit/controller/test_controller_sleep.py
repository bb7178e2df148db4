"""Between warm and zero: replicas that leave their device and live on."""

from __future__ import annotations

from typing import Any

from stoker.controller.view import Replica
from stoker.nouns.record import FunctionState, Phase

Stage = Any
MIB = 1024**2
WINDOW = {"scaleResources": [{"windowSize": "60s"}]}


def declared(**more: Any) -> dict[str, Any]:
    """A function of two workers on one GPU that sleeps after 5 s and goes to zero after 60."""
    spec: dict[str, Any] = {
        "minReplicas": 0,
        "scaleToZero": WINDOW,
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "env": [
            {"name": "STOKER_SLEEP_AFTER", "value": "5s"},
            {"name": "STOKER_GPU_MEMORY", "value": "8MiB"},
        ],
        "triggers": {"http": {"kind": "http", "numWorkers": 2}},
    }
    return spec | more


def serve(stage: Stage, name: str = "fn", *, sleeps: bool = True, **more: Any) -> Replica:
    number = stage.deploy(name, **declared(**more))
    stage.built(number, name)
    (replica,) = stage.world.replicas_of(name, number)
    stage.started(replica)
    stage.ready(replica, sleeps=sleeps)
    return replica


def held(stage: Stage) -> int:
    return sum(stage.world.ledger.used().values())


def test_an_idle_replica_leaves_its_device_and_keeps_its_processes(gpus: Stage) -> None:
    replica = serve(gpus)
    assert held(gpus) == 16 * MIB
    gpus.after(6)
    assert gpus.effects.told_sleep[:2] == [(replica.id, 0), (replica.id, 1)]
    assert held(gpus) == 16 * MIB, "until the workers say so the bytes are theirs"
    gpus.fall_asleep(replica)
    assert held(gpus) == 0
    assert gpus.effects.replicas[replica.id].phase is Phase.ASLEEP
    assert gpus.effects.drained == []
    assert gpus.record().state is FunctionState.SCALED_TO_ZERO
    assert "16.0 MiB are free" in gpus.log()


def test_the_bytes_are_free_only_when_all_workers_have_left(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.state(replica, 0, "asleep", sleeps=True)
    assert held(gpus) == 16 * MIB


def test_a_request_wakes_the_sleeper_and_starts_no_process(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.fall_asleep(replica)
    launches = len(gpus.effects.launches)
    gpus.wake()
    assert sorted(gpus.effects.told_wake) == [(replica.id, 0), (replica.id, 1)]
    assert held(gpus) == 16 * MIB
    assert gpus.record().state is FunctionState.SCALING_FROM_ZERO
    gpus.state(replica, 0, "starting", sleeps=True)
    gpus.ready(replica, sleeps=True)
    assert gpus.record().state is FunctionState.READY
    assert len(gpus.effects.launches) == launches
    assert gpus.replica() is replica


def test_a_sleeper_whose_device_was_taken_meanwhile_starts_elsewhere(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.fall_asleep(replica)
    other = serve(
        gpus, "other", minReplicas=1, env=[{"name": "STOKER_GPU_MEMORY", "value": "8MiB"}]
    )
    assert other.devices == replica.devices, "best fit: its room is free"
    gpus.wake()
    awake = [one for one in gpus.world.replicas_of("fn") if not one.asleep]
    assert [one.devices for one in awake] != [replica.devices]
    assert gpus.effects.told_wake == []


def test_past_its_window_a_sleeper_goes_to_zero(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.fall_asleep(replica)
    gpus.after(50)
    assert gpus.effects.drained == []
    gpus.after(10)
    assert gpus.effects.drained == [(replica.id, 0), (replica.id, 1)]


def test_min_replicas_may_sleep_but_do_not_go(gpus: Stage) -> None:
    replica = serve(gpus, minReplicas=1)
    gpus.after(6)
    gpus.fall_asleep(replica)
    gpus.after(600)
    assert gpus.effects.drained == []
    assert held(gpus) == 0


def test_zero_now_ends_a_sleeper_too(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.fall_asleep(replica)
    gpus.world.change("fn", lambda record: record.model_copy(update={"desired_zero": True}))
    gpus.after(1)
    assert gpus.effects.drained == [(replica.id, 0), (replica.id, 1)]


def test_one_that_had_work_when_asked_is_awake_and_its_sibling_comes_back(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.state(replica, 0, "asleep", sleeps=True)  # the other one got a request before it heard
    gpus.demand(in_flight=1, by_replica={replica.id: 1})
    assert gpus.effects.told_wake == [(replica.id, 0)]
    assert held(gpus) == 16 * MIB


def test_workers_with_nothing_on_the_device_are_never_asked_to_sleep(gpus: Stage) -> None:
    serve(gpus, sleeps=False)
    gpus.after(30)
    assert gpus.effects.told_sleep == []
    gpus.after(40)
    assert gpus.effects.drained != [], "and go to zero from warm, after the whole window"


def test_a_sleeper_that_dies_is_not_replaced(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.fall_asleep(replica)
    launches = len(gpus.effects.launches)
    gpus.dies(replica)
    gpus.dies(replica, index=1)
    gpus.after(5)
    assert gpus.world.replicas_of("fn") == []
    assert len(gpus.effects.launches) == launches


def test_a_wake_that_fails_is_a_crash_and_the_next_try_is_a_new_process(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.fall_asleep(replica)
    launches = len(gpus.effects.launches)
    gpus.wake()
    gpus.state(replica, 0, "failed", error="no room on the device", sleeps=True)
    gpus.dies(replica)
    gpus.demand(waiting=1)
    gpus.after(30)
    assert len(gpus.effects.launches) > launches


def test_another_controller_finds_sleepers_asleep(gpus: Stage) -> None:
    replica = serve(gpus)
    gpus.after(6)
    gpus.fall_asleep(replica)
    other = gpus.restart_controller()
    adopted = other.replica()
    for slot in adopted.slots:
        other.state(adopted, slot.index, "asleep", sleeps=True)
    assert held(other) == 0
    other.wake()
    assert sorted(other.effects.told_wake) == [(replica.id, 0), (replica.id, 1)]


def test_a_slow_starter_is_not_ended_because_others_would_sleep_by_now(gpus: Stage) -> None:
    """kserve#1247: a starter that takes longer than the idle timer is ended before it served."""
    replica = serve(gpus, minReplicas=1)
    for index in (0, 1):
        gpus.dies(replica, index=index)
    gpus.after(2)
    gpus.started(replica)
    launches = len(gpus.effects.launches)
    gpus.after(40)
    assert gpus.replica() is replica
    assert replica.phase is Phase.STARTING
    assert len(gpus.effects.launches) == launches
    gpus.ready(replica, sleeps=True)
    assert gpus.record().state is FunctionState.READY


def test_a_function_that_has_nothing_to_take_off_is_told_so_once(gpus: Stage) -> None:
    """It declared a sleep, stayed warm, and nothing said why."""
    one = {"triggers": {"http": {"kind": "http", "numWorkers": 1}}}
    serve(gpus, sleeps=False, **one)
    gpus.after(10)
    assert gpus.log().count("STOKER_SLEEP_AFTER does nothing") == 1
    serve(gpus, "able", **one)
    serve(gpus, "plain", sleeps=False, **one, env=[{"name": "STOKER_GPU_MEMORY", "value": "8MiB"}])
    gpus.after(10)
    assert "STOKER_SLEEP_AFTER" not in gpus.log("able") + gpus.log("plain")
