"""Workers that run out of device memory: their next replica is promised what they lacked."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.controller.happenings import WorkerStated
from stoker.nouns.record import FunctionState
from stoker.nouns.rollout import CANARY_ANNOTATION

Stage = Any
MIB = 1024**2
MARGIN = 11 / 10


def gpu(memory: int, **more: Any) -> dict[str, Any]:
    """One worker of so many MiB; 0 is unknown."""
    env = [{"name": "STOKER_GPU_MEMORY", "value": f"{memory}MiB"}] if memory else []
    return {
        "minReplicas": 0,
        "scaleToZero": {"scaleResources": [{"windowSize": "600s"}]},
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "env": env,
    } | more


def refuses(stage: Stage, name: str, mib: float, times: int = 2) -> None:
    """A worker of it says so."""
    replica = stage.replica(name)
    pid, short = replica.slots[0].pid, int(mib * MIB)
    stage.happen(WorkerStated(replica.id, 0, "ready", pid, short_times=times, short_bytes=short))


def again(stage: Stage, name: str = "fn") -> int:
    """Its replica ends and another starts: the MiB that it is promised."""
    replica = stage.replica(name)
    stage.world.change(name, lambda record: record.model_copy(update={"desired_zero": True}))
    stage.quiet()
    stage.after(0.25)
    stage.dies(replica, status=0)
    stage.wake(name)
    new = stage.replica(name)
    stage.started(new)
    stage.ready(new)
    stage.quiet()
    stage.after(1.0)
    return round(sum(stage.world.ledger.held(new.id).values()) / MIB)


def test_the_next_replica_is_promised_what_the_largest_refused_request_needs(gpus: Stage) -> None:
    gpus.serve("fn", **gpu(4))
    refuses(gpus, "fn", 10)
    assert "one worker needs 10.0 MiB for the largest request" in gpus.log()
    assert "and it has 4.0 MiB" in gpus.record().message
    assert gpus.record().state is FunctionState.READY
    assert again(gpus) == round(10 * MARGIN)
    assert gpus.record().message == ""
    assert int(gpus.effects.launches[-1].env["STOKER_GPU_BYTES"]) == int(10 * MIB * MARGIN)


def test_one_refusal_is_no_lesson_and_a_second_one_of_another_worker_is(gpus: Stage) -> None:
    gpus.serve("fn", **gpu(4))
    refuses(gpus, "fn", 10, times=1)
    assert again(gpus) == 4
    refuses(gpus, "fn", 8, times=1)
    assert again(gpus) == round(10 * MARGIN)


def test_the_lesson_outlives_the_controller_and_is_not_learned_twice(gpus: Stage) -> None:
    replica = gpus.serve("fn", **gpu(4))
    refuses(gpus, "fn", 10, times=1)
    other = gpus.restart_controller()
    other.happen(WorkerStated(replica.id, 0, "ready", 100, short_times=1, short_bytes=10 * MIB))
    assert other.record().serving.model.short_times == 1
    refuses(other, "fn", 10, times=2)
    third = other.restart_controller()
    third.ready(third.replica())
    assert again(third) == round(10 * MARGIN)


def test_requests_that_no_device_can_hold_are_named_and_the_others_are_served(
    gpus: Stage,
) -> None:
    gpus.serve("fn", **gpu(4))
    refuses(gpus, "fn", 40)
    said = "need 44.0 MiB on a GPU, more than the 16.0 MiB that there is: they get 507"
    assert said in gpus.record().message
    assert again(gpus) == 16, "as much as there is"
    assert said in gpus.record().message
    assert gpus.record().state is FunctionState.READY


def test_a_canary_hides_no_lesson_of_what_serves(gpus: Stage) -> None:
    gpus.serve("fn", **gpu(4))
    refuses(gpus, "fn", 40)
    lesson = gpus.record().message
    number = gpus.deploy(annotations={CANARY_ANNOTATION: '{"share": 0.2}'}, **gpu(4))
    gpus.built(number)
    (tried,) = gpus.world.replicas_of("fn", number)
    gpus.started(tried)
    gpus.ready(tried)
    gpus.after(0.25)
    assert "they get 507" in lesson
    assert gpus.record().message == f"revision {number} gets 20 % as a canary; {lesson}"


def test_where_the_lesson_is_not_to_be_had_it_runs_with_what_it_had(gpus: Stage) -> None:
    for name in ("one", "two"):
        gpus.serve(name, **gpu(9, minReplicas=1))
    gpus.serve("fn", **gpu(4))
    refuses(gpus, "fn", 10)
    assert again(gpus) == 4
    assert gpus.record().state is FunctionState.READY
    assert "and it has 4.0 MiB" in gpus.record().message


def test_others_that_are_idle_make_room_for_the_lesson(gpus: Stage) -> None:
    gpus.serve("fn", **gpu(4))
    refuses(gpus, "fn", 10)
    fixed = gpus.serve("fixed", **gpu(16, minReplicas=1))
    idle = gpus.serve("idle", **gpu(8))
    assert idle.devices != fixed.devices
    gpus.quiet()
    gpus.after(1.0)
    gpus.world.change("fn", lambda record: record.model_copy(update={"desired_zero": True}))
    gpus.after(0.25)
    gpus.dies(gpus.replica("fn"), status=0)
    gpus.wake("fn")
    assert idle.draining
    gpus.dies(idle, status=0)
    assert round(gpus.replica("fn").device_bytes / MIB) == round(10 * MARGIN)


def test_one_of_unknown_size_has_its_card_whole_before_and_after_one_refusal(gpus: Stage) -> None:
    gpus.serve("fn", **gpu(0))
    refuses(gpus, "fn", 40, times=1)
    assert again(gpus) == 16


@pytest.mark.parametrize(("workers", "mib"), [(1, 11), (2, 16)])
def test_each_worker_on_a_card_gets_it(gpus: Stage, workers: int, mib: int) -> None:
    gpus.serve("fn", **gpu(2, triggers={"http": {"kind": "http", "numWorkers": workers}}))
    refuses(gpus, "fn", 10)
    assert round(gpus.world.ledger.each(gpus.record().serving) / MIB) == mib


def test_a_sleeper_wakes_with_what_it_learned(gpus: Stage) -> None:
    env = [
        {"name": "STOKER_GPU_MEMORY", "value": "4MiB"},
        {"name": "STOKER_SLEEP_AFTER", "value": "2s"},
    ]
    replica = gpus.serve("fn", **gpu(4) | {"env": env})
    gpus.state(replica, 0, "ready", sleeps=True)
    refuses(gpus, "fn", 10)
    gpus.state(replica, 0, "ready", sleeps=True)
    gpus.quiet()
    gpus.after(3)
    gpus.fall_asleep(replica)
    assert replica.asleep
    gpus.wake("fn")
    assert round(replica.device_bytes / MIB) == round(10 * MARGIN)
