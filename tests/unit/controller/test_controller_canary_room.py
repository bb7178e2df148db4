"""Canaries where devices are scarce: sleepers, evictions, and what running out of memory taught."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker.controller.happenings import DemandSeen, FunctionSeen, WorkerStated
from stoker.controller.view import Replica
from stoker.nouns.record import Demand, FunctionState
from stoker.nouns.rollout import CANARY_ANNOTATION, Asked, Verb

Stage = Any
MIB = 1024**2
LENGTH_S = 60


@pytest.fixture
def one_gpu(gpus: Stage) -> Stage:
    return type(gpus)({"SIM-0": 16 * MIB})


def gpu(memory: int, *, sleeps: str = "", least: int = 0) -> dict[str, Any]:
    """One worker of so many MiB."""
    env = [{"name": "STOKER_GPU_MEMORY", "value": f"{memory}MiB"}]
    env += [{"name": "STOKER_SLEEP_AFTER", "value": sleeps}] if sleeps else []
    return {
        "minReplicas": least,
        "maxReplicas": 3,
        "scaleToZero": {"scaleResources": [{"windowSize": "10s"}]},
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "env": env,
    }


def serve(stage: Stage, name: str = "fn", **spec: Any) -> Replica:
    number = stage.deploy(name, **spec)
    stage.built(number, name)
    (replica,) = stage.world.replicas_of(name, number)
    return up(stage, replica)


def up(stage: Stage, replica: Replica) -> Replica:
    stage.started(replica)
    stage.ready(replica, sleeps=True)
    return replica


def begin(stage: Stage, **spec: Any) -> Replica:
    """A canary's only replica, which has its share by now."""
    declared = {"share": 0.2, "length_s": LENGTH_S, "min_requests": 20}
    number = stage.deploy(annotations={CANARY_ANNOTATION: json.dumps(declared)}, **spec)
    stage.built(number)
    (replica,) = stage.world.replicas_of("fn", number)
    up(stage, replica)
    assert stage.record().canary is not None
    return replica


def to_zero(stage: Stage, replica: Replica) -> None:
    """It was idle for its window."""
    stage.quiet()
    stage.after(11)
    assert replica.draining
    stage.dies(replica, status=0)


def report(stage: Stage, **by_function: Demand) -> None:
    stage.happen(DemandSeen({"gateway-1": by_function}))


def refuses(stage: Stage, replica: Replica, mib: int) -> None:
    """Two of its requests were out of memory."""
    pid, short = replica.slots[0].pid, mib * MIB
    stage.happen(WorkerStated(replica.id, 0, "ready", pid, short_times=2, short_bytes=short))


def promote(stage: Stage) -> None:
    record = stage.record()
    asked = Asked(verb=Verb.PROMOTE, who="ann", at=stage.clock.epoch(), why="")
    canary = record.canary.model_copy(update={"asked": asked})
    stage.effects.functions["fn"] = record.model_copy(update={"canary": canary})
    stage.happen(FunctionSeen("fn", stage.record()))


def test_what_a_canary_ran_out_of_is_its_own_lesson_and_goes_with_it_when_it_serves(
    gpus: Stage,
) -> None:
    serve(gpus, **gpu(4, least=1))
    new = begin(gpus, **gpu(4, least=1))
    refuses(gpus, new, 10)
    record = gpus.record()
    assert record.serving.model is None
    assert record.canary.revision.model.short == 10 * MIB
    assert "one worker needs 10.0 MiB" in gpus.log()
    promote(gpus)
    record = gpus.record()
    assert (record.serving.number, record.canary) == (new.revision, None)
    assert gpus.world.ledger.each(record.serving) == int(10 * MIB * 1.1)


def test_the_peak_of_a_canarys_replica_that_goes_is_kept(gpus: Stage) -> None:
    serve(gpus, **gpu(4, least=1))
    new = begin(gpus, **gpu(4, least=1))
    report(gpus, fn=Demand(answered=5))
    pid = new.slots[0].pid
    gpus.happen(WorkerStated(new.id, 0, "draining", pid, device_bytes=3 * MIB))
    assert gpus.record().canary.revision.model.measured == 3 * MIB
    assert gpus.record().serving.model is None


def test_a_canary_whose_lesson_is_not_to_be_had_runs_with_what_it_had(one_gpu: Stage) -> None:
    serve(one_gpu, **gpu(4, least=1))
    new = begin(one_gpu, **gpu(4, least=1))
    refuses(one_gpu, new, 14)
    one_gpu.happen(WorkerStated(new.id, 0, "draining", new.slots[0].pid, short_times=2))
    one_gpu.dies(new, status=0)
    one_gpu.after(1)
    (again,) = one_gpu.world.replicas_of("fn", new.revision)
    assert again.device_bytes == 4 * MIB


def test_what_serves_has_a_lesson_and_still_lets_a_canary_in_beside_what_it_holds(
    one_gpu: Stage,
) -> None:
    old = serve(one_gpu, **gpu(4, least=1))
    refuses(one_gpu, old, 40)
    new = begin(one_gpu, **gpu(4, least=1))
    assert (old.draining, new.draining) == (False, False)
    assert one_gpu.record().state is FunctionState.READY


def test_a_canary_that_gives_way_ends_since_nobody_would_wake_it(gpus: Stage) -> None:
    old = serve(gpus, **gpu(10))
    new = begin(gpus, **gpu(10, sleeps="2s"))
    to_zero(gpus, old)
    serve(gpus, "busy", **gpu(10, least=1))
    gpus.after(2 * LENGTH_S)
    gpus.built(gpus.deploy("wants", **gpu(10)), "wants")
    gpus.after(1)
    assert gpus.effects.told_sleep == []
    assert new.draining


def test_beside_an_awake_canary_what_serves_may_still_press_a_busy_replica_out(
    gpus: Stage,
) -> None:
    old = serve(gpus, **gpu(10))
    begin(gpus, **gpu(10))
    to_zero(gpus, old)
    other = serve(gpus, "other", **gpu(10))
    start = gpus.clock.time
    while not other.draining and gpus.clock.time < start + 30:
        report(gpus, other=Demand(in_flight=1), fn=Demand(waiting=1))
        gpus.after(0.25)
    assert other.draining
    assert gpus.clock.time - start >= 1


def both_at_zero(stage: Stage) -> None:
    """Its user sent it to zero, canary and all, and others came meanwhile."""
    serve(stage, **gpu(4))
    begin(stage, **gpu(4))
    stage.world.change("fn", lambda record: record.model_copy(update={"desired_zero": True}))
    stage.after(0.25)
    for replica in stage.world.replicas_of("fn"):
        assert replica.draining
        stage.dies(replica, status=0)
    assert stage.world.replicas_of("fn") == []


def revisions(stage: Stage) -> list[int]:
    return [one.revision for one in stage.world.replicas_of("fn") if not one.draining]


def test_what_serves_has_the_first_pick_of_the_room_that_is_left(one_gpu: Stage) -> None:
    old, new = serve(one_gpu, **gpu(4, least=1)), begin(one_gpu, **gpu(4, least=1))
    fixed = serve(one_gpu, "fixed", **gpu(8, least=1))
    for lost in (old, new):
        del one_gpu.effects.replicas[lost.id]
    larger = fixed.record().model_copy(update={"device_bytes": 12 * MIB})
    one_gpu.effects.replicas[fixed.id] = larger
    other = one_gpu.restart_controller()
    assert revisions(other) == [1]
    for replica in other.world.replicas.values():
        up(other, replica)
    other.after(200)
    assert revisions(other) == [1]
    assert other.record().canary is None
    assert "there was no room for a replica of it" in other.log()


def test_the_room_that_is_cleared_for_a_canary_is_not_taken_by_another(one_gpu: Stage) -> None:
    both_at_zero(one_gpu)
    hungry = serve(one_gpu, "hungry", **gpu(4))
    to_zero(one_gpu, hungry)
    serve(one_gpu, "fixed", **gpu(6, least=1))
    idle = serve(one_gpu, "idle", **gpu(6))
    one_gpu.quiet()
    one_gpu.after(1)
    one_gpu.wake()
    one_gpu.after(0.5)
    assert idle.draining
    assert one_gpu.world.ledger.promised("fn") == {"SIM-0": 4 * MIB}
    one_gpu.wake("hungry")
    one_gpu.after(0.5)
    one_gpu.dies(idle, status=0)
    assert revisions(one_gpu) == [1, 2]
    assert one_gpu.world.replicas_of("hungry") == []


def test_a_canary_that_is_ready_is_no_answer_to_a_wake(stage: Stage) -> None:
    both_at_zero(stage)
    stage.wake()
    stage.quiet()
    stage.after(0.25)
    assert revisions(stage) == [1, 2]
    old, new = stage.world.replicas_of("fn")
    stage.started(old)
    stage.after(2)
    up(stage, new)
    stage.quiet()
    stage.after(20)
    assert not old.draining
    assert list(stage.world.functions["fn"].wakes) == []
    up(stage, old)
    (took,) = stage.world.functions["fn"].wakes
    assert took == pytest.approx(22.25, abs=0.5)


def test_a_crash_loop_of_what_serves_is_none_of_the_canarys(stage: Stage) -> None:
    two = {"triggers": {"http": {"kind": "http", "numWorkers": 2}}}
    old = serve(stage, minReplicas=1)
    new = begin(stage, minReplicas=1, **two)
    for _ in range(4):
        stage.dies(old)
        stage.after(3)
        up(stage, old)
    stage.dies(new, 0)
    up(stage, new)
    stage.dies(new, 0)
    due = new.slots[0].restart_at
    assert due is not None
    stage.dies(old)
    assert stage.world.functions["fn"].blocked_until is not None
    assert new.slots[0].restart_at == due
