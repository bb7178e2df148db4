"""Sleep and eviction together: whose bytes count, on whose way, and what a sleeper still holds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stoker.controller.happenings import DemandSeen, DevicesSeen, FunctionSeen, Snapshot
from stoker.controller.simulated import simulated_devices
from stoker.controller.view import Replica
from stoker.nouns.device import STRANGER, Device, DeviceKind, DeviceSeen, DeviceUse
from stoker.nouns.record import Demand, FunctionState, Phase

Stage = Any
MIB = 1024**2
WINDOW = {"scaleResources": [{"windowSize": "600s"}]}


def gpu(memory: int, *, sleeps: str = "", gpus: int = 1, **more: Any) -> dict[str, Any]:
    """One worker of so many MiB on each of its GPUs; 0 is unknown."""
    env = [{"name": "STOKER_GPU_MEMORY", "value": f"{memory * gpus}MiB"}] if memory else []
    env += [{"name": "STOKER_SLEEP_AFTER", "value": sleeps}] if sleeps else []
    return {
        "minReplicas": 0,
        "scaleToZero": WINDOW,
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
        "env": env,
    } | more


def cards(*lost: str, context: int = 1, size: int = 16, **uses: DeviceUse) -> DevicesSeen:
    """The stage's two devices; each process takes a MiB of each of its own."""
    return DevicesSeen(
        tuple(
            DeviceSeen(
                Device(name, DeviceKind.CUDA, size * MIB, "card", (9, 0), "", context * MIB),
                uses.get(name.replace("-", "_"), DeviceUse()),
            )
            for name in ("SIM-0", "SIM-1")
            if name not in lost
        )
    )


def serve(stage: Stage, name: str, **spec: Any) -> Replica:
    number = stage.deploy(name, **spec)
    stage.built(number, name)
    (replica,) = [one for one in stage.world.replicas_of(name, number) if not one.draining]
    stage.started(replica)
    stage.ready(replica, sleeps=True)
    return replica


def settle(stage: Stage) -> None:
    stage.quiet()
    stage.after(1.0)


def sleeper(stage: Stage, name: str = "deep", memory: int = 8, **spec: Any) -> Replica:
    """A replica that has fallen asleep."""
    replica = serve(stage, name, **gpu(memory, sleeps="2s", **spec))
    stage.quiet()
    stage.after(3)
    stage.fall_asleep(replica)
    assert replica.asleep
    return replica


def ends(stage: Stage, replica: Replica) -> None:
    for slot in replica.slots:
        stage.dies(replica, slot.index, status=0)


def zero(stage: Stage, name: str, memory: int, **spec: Any) -> None:
    """Deployed, and at zero."""
    replica = serve(stage, name, **gpu(memory, **spec))
    stage.world.change(name, lambda record: record.model_copy(update={"desired_zero": True}))
    stage.after(0.25)
    ends(stage, replica)
    assert stage.world.replicas_of(name) == []


def held(stage: Stage, replica: Replica) -> dict[str, int]:
    return {name: count // MIB for name, count in stage.world.ledger.held(replica.id).items()}


# What a sleeper still holds


def test_the_context_of_each_process_stays_on_the_card_while_it_sleeps(gpus: Stage) -> None:
    gpus.happen(cards())
    replica = sleeper(gpus, triggers={"http": {"kind": "http", "numWorkers": 2}})
    assert held(gpus, replica) == {"SIM-0": 2}
    assert "14.0 MiB are free; its processes keep 2.0 MiB" in gpus.log("deep")
    assert gpus.world.ledger.free() == {"SIM-0": 14 * MIB, "SIM-1": 16 * MIB}


def test_a_simulated_card_has_a_context_where_it_is_declared_to() -> None:
    plain, like_a_card = simulated_devices("sim:1x16GiB"), simulated_devices("sim:1x16GiB+300MiB")
    assert [device.context_bytes for device in (*plain, *like_a_card)] == [0, 300 * MIB]


def test_what_the_driver_says_of_a_sleeper_counts_more_than_the_guess(gpus: Stage) -> None:
    gpus.happen(cards())
    replica = sleeper(gpus)
    pid = replica.slots[0].pid
    gpus.happen(cards(SIM_0=DeviceUse(3 * MIB, ((pid, 3 * MIB),))))
    assert held(gpus, replica) == {"SIM-0": 3}
    gpus.happen(cards(SIM_0=DeviceUse(3 * MIB)))
    assert held(gpus, replica) == {"SIM-0": 1}, "a driver that hides pids tells nothing"
    assert gpus.world.ledger.foreign()["SIM-0"] == 2 * MIB


def test_a_sleepers_own_context_is_not_in_the_way_of_its_waking(gpus: Stage) -> None:
    gpus.happen(cards())
    replica = sleeper(gpus, memory=16)
    gpus.wake("deep")
    assert gpus.effects.told_wake == [(replica.id, 0)]
    assert held(gpus, replica) == {"SIM-0": 16}


def test_sleepers_are_the_first_to_go_for_the_bytes_of_their_contexts(gpus: Stage) -> None:
    gpus.happen(cards())
    zero(gpus, "large", 16)
    awake = serve(gpus, "awake", **gpu(16))
    asleep = sleeper(gpus)
    assert set(awake.devices) != set(asleep.devices)
    gpus.wake("large")
    assert asleep.draining
    assert not awake.draining
    ends(gpus, asleep)
    assert len(gpus.world.replicas_of("large")) == 1


def test_another_controller_counts_the_contexts_of_the_sleepers_it_finds(gpus: Stage) -> None:
    gpus.happen(cards())
    replica = sleeper(gpus)
    other = gpus.restart_controller(cards())
    other.state(other.replica("deep"), 0, "asleep", sleeps=True)
    assert held(other, replica) == {"SIM-0": 1}


def test_a_lost_card_takes_its_sleepers_with_it(gpus: Stage) -> None:
    gpus.happen(cards())
    replica = sleeper(gpus, minReplicas=1)
    gpus.happen(cards("SIM-0"))
    assert replica.draining
    ends(gpus, replica)
    assert [one.devices for one in gpus.world.replicas_of("deep")] == [("SIM-1",)]
    gpus.happen(cards())
    assert gpus.world.ledger.free()["SIM-0"] == 16 * MIB


# Who can sleep is put to sleep


def waits_beside(stage: Stage, **spec: Any) -> tuple[Replica, Replica]:
    """`third` of 14 MiB is at zero; two idle functions, one of whom sleeps, fill the cards."""
    stage.happen(cards())
    zero(stage, "third", 14)
    able = serve(stage, "able", **gpu(16, sleeps="60s", **spec))
    other = serve(stage, "other", **gpu(16))
    settle(stage)
    return able, other


def test_an_idle_replica_that_can_sleep_is_put_to_sleep_and_not_ended(gpus: Stage) -> None:
    able, other = waits_beside(gpus)
    gpus.wake("third")
    assert gpus.effects.told_sleep == [(able.id, 0)]
    assert not able.draining
    assert not other.draining
    assert gpus.world.replicas_of("third") == [], "until the worker says so the bytes are its own"
    gpus.fall_asleep(able)
    (third,) = gpus.world.replicas_of("third")
    assert third.devices == able.devices
    assert held(gpus, able) == {able.devices[0]: 1}
    assert f"replica {able.id} is put to sleep for third" in gpus.log("able")
    assert gpus.record("able").state is FunctionState.SCALED_TO_ZERO


def test_one_that_had_work_when_it_was_asked_is_not_waited_for(gpus: Stage) -> None:
    able, other = waits_beside(gpus)
    gpus.wake("third")
    gpus.effects.told_sleep.clear()
    busy = {"able": Demand(in_flight=1, by_replica={able.id: 1}), "third": Demand(waiting=1)}
    gpus.happen(DemandSeen({"g": busy}))
    gpus.state(able, 0, "ready", sleeps=True)
    gpus.after(0.25)
    assert other.draining
    assert not able.draining


def test_nobody_is_asked_twice_while_the_bytes_are_on_their_way(gpus: Stage) -> None:
    able, other = waits_beside(gpus)
    gpus.wake("third")
    for _ in range(40):
        gpus.happen(DemandSeen({"g": {"third": Demand(waiting=1)}}))
        gpus.after(0.25)
    assert gpus.effects.told_sleep == [(able.id, 0)]
    assert not other.draining


def test_one_that_has_no_work_and_does_not_fall_asleep_hangs_and_is_ended(gpus: Stage) -> None:
    able, other = waits_beside(gpus)
    gpus.world.functions["other"].loads.append(9.0)
    gpus.happen(DemandSeen({"g": {"other": Demand(arrivals=9)}}))
    gpus.wake("third")
    for _ in range(124):
        gpus.happen(DemandSeen({"g": {"third": Demand(waiting=1), "other": Demand(arrivals=9)}}))
        gpus.after(0.25)
    assert able.draining
    assert not other.draining


def test_one_put_to_sleep_early_keeps_its_whole_window_before_it_goes(gpus: Stage) -> None:
    window = {"scaleResources": [{"windowSize": "100s"}]}
    able, _ = waits_beside(gpus, scaleToZero=window)
    gpus.wake("third")
    gpus.fall_asleep(able)
    gpus.after(95)
    assert not able.draining, "60 s until it would have slept, and 40 asleep"
    gpus.after(10)
    assert able.draining


def test_a_sleeper_gets_its_turn_from_one_that_took_its_card_and_is_never_idle(
    gpus: Stage,
) -> None:
    """One that slept counted as a replica, so its function pressed nobody and waited for ever."""
    gpus.happen(cards())
    filler = serve(gpus, "filler", **gpu(16, minReplicas=1))
    asleep = sleeper(gpus, memory=14)
    taker = serve(gpus, "taker", **gpu(14))
    settle(gpus)
    assert taker.devices == asleep.devices != filler.devices
    busy = {"taker": Demand(in_flight=1, by_replica={taker.id: 1})}
    gpus.happen(DemandSeen({"g": busy}))
    gpus.wake("deep")
    for _ in range(200):
        gpus.happen(DemandSeen({"g": {**busy, "deep": Demand(waiting=1)}}))
        gpus.after(0.25)
    assert taker.draining
    assert gpus.effects.drained_within[taker.id] == math.inf
    ends(gpus, taker)
    assert gpus.effects.told_wake == [(asleep.id, 0)]


def test_a_sleeper_whose_card_others_keep_gives_way_to_a_replica_elsewhere(gpus: Stage) -> None:
    """Both together were one more than `maxReplicas`, and the host held the weights twice."""
    gpus.happen(cards())
    asleep = sleeper(gpus, memory=14, maxReplicas=1)
    serve(gpus, "taker", **gpu(15, minReplicas=1))
    gpus.wake("deep")
    (new,) = [one for one in gpus.world.replicas_of("deep") if not one.draining]
    assert new.devices == ("SIM-1",)
    assert asleep.draining


# What was found by a second reader


def test_replicas_found_before_the_driver_answers_hold_their_bytes_when_it_does(
    gpus: Stage,
) -> None:
    """Their devices were not known yet, so that they held nothing, and the bytes went twice."""
    replica = serve(gpus, "one", **gpu(12))
    other = type(gpus)({})
    other.world.ledger.known = False
    other.clock, other.world.clock = gpus.clock, gpus.clock
    other.effects.functions, other.effects.replicas = gpus.effects.functions, gpus.effects.replicas
    other.happen(Snapshot(dict(gpus.effects.functions), dict(gpus.effects.replicas)))
    other.ready(other.replica("one"))
    other.happen(cards())
    assert held(other, replica) == {replica.devices[0]: 12}
    assert serve(other, "two", **gpu(12)).devices != replica.devices


def test_nothing_that_needs_a_gpu_starts_on_the_cpu_while_the_driver_is_silent(
    stage: Stage,
) -> None:
    stage.world.ledger.known = False
    stage.deploy("one", **gpu(8))
    stage.after(5)
    assert stage.effects.builds == []
    assert "waiting for the GPU driver" in stage.log("one")
    stage.happen(cards())
    stage.after(0.25)
    assert stage.effects.built_for == ["cuda:9.0"]
    stage.built(1, "one")
    assert stage.replica("one").devices == ("SIM-0",)


def test_a_driver_that_never_answers_fails_the_deployment_and_says_why(stage: Stage) -> None:
    stage.world.ledger.known = False
    stage.deploy("one", readinessTimeoutSeconds=10, **gpu(8))
    stage.deploy("plain")
    assert stage.effects.builds == [1], "what needs no GPU waits for no driver"
    stage.after(11)
    assert stage.record("one").state is FunctionState.ERROR
    assert stage.record("one").message == "the GPU driver did not answer within 10 s"


def test_a_function_that_is_woken_before_the_driver_answers_waits_for_it(gpus: Stage) -> None:
    zero(gpus, "one", 8)
    gpus.world.ledger.known = False
    gpus.wake("one")
    assert gpus.world.replicas_of("one") == []
    assert gpus.record("one").message.endswith("held by a driver that does not answer")
    gpus.happen(cards())
    gpus.after(0.25)
    assert gpus.replica("one").devices == ("SIM-0",)


def test_a_card_on_which_others_hold_bytes_is_cleared_for_a_function_that_takes_it_whole(
    gpus: Stage,
) -> None:
    """What a display took could not be evicted, so that nobody was and the function waited."""
    display = DeviceUse(MIB, ((STRANGER, MIB),))
    gpus.happen(cards(SIM_0=display, SIM_1=display))
    zero(gpus, "whole", 0)
    one, two = serve(gpus, "one", **gpu(9)), serve(gpus, "two", **gpu(9))
    settle(gpus)
    gpus.wake("whole")
    (victim,) = [replica for replica in (one, two) if replica.draining]
    gpus.after(5)
    assert [one.draining, two.draining].count(True) == 1
    ends(gpus, victim)
    assert gpus.replica("whole").devices == victim.devices


def test_a_sleeper_that_took_its_card_whole_wakes_though_a_display_came(gpus: Stage) -> None:
    gpus.happen(cards(context=0))
    asleep = sleeper(gpus, memory=0)
    gpus.happen(cards(context=0, SIM_0=DeviceUse(MIB, ((STRANGER, MIB),))))
    gpus.wake("deep")
    assert gpus.effects.told_wake == [(asleep.id, 0)]
    assert held(gpus, asleep) == {"SIM-0": 15}


def test_a_card_that_is_lost_while_room_is_made_on_it_costs_a_turn_and_not_the_function(
    gpus: Stage,
) -> None:
    """The lost device was looked up among the free ones: KeyError, and state `error` for good."""
    gpus.happen(cards())
    zero(gpus, "third", 16)
    one, two = serve(gpus, "one", **gpu(16)), serve(gpus, "two", **gpu(16))
    settle(gpus)
    gpus.wake("third")
    (victim,) = [replica for replica in (one, two) if replica.draining]
    (other,) = [replica for replica in (one, two) if not replica.draining]
    gpus.happen(cards(*victim.devices))
    gpus.after(0.25)
    assert gpus.record("third").state is not FunctionState.ERROR
    assert gpus.world.functions["third"].condemned == ""
    ends(gpus, victim)
    gpus.after(5)
    assert other.draining
    ends(gpus, other)
    assert gpus.replica("third").devices == other.devices


def test_what_the_old_revision_gives_up_goes_to_the_new_one_and_to_nobody_else(
    gpus: Stage,
) -> None:
    """Whoever waited took it, and of the function neither revision ran until the timeout."""
    filler = serve(gpus, "filler", **gpu(16, minReplicas=1))
    zero(gpus, "greedy", 16)
    old = serve(gpus, "one", **gpu(16, minReplicas=1))
    assert filler.devices != old.devices
    settle(gpus)
    gpus.wake("greedy")
    gpus.built(gpus.deploy("one", **gpu(16, minReplicas=1)), "one")
    gpus.after(0.25)
    assert old.draining
    ends(gpus, old)
    assert [one.revision for one in gpus.world.replicas_of("one")] == [2]
    assert gpus.world.replicas_of("greedy") == []


def test_a_worker_that_is_about_to_be_replaced_keeps_its_replica_on_the_device(
    gpus: Stage,
) -> None:
    """Its sibling slept, the bytes were given away, and the replacement loaded into them."""
    two = {"http": {"kind": "http", "numWorkers": 2}}
    replica = serve(gpus, "one", **gpu(4, sleeps="2s", triggers=two))
    gpus.dies(replica, index=1)
    gpus.dies(replica, index=1)
    gpus.state(replica, 0, "asleep", sleeps=True)
    assert held(gpus, replica) == {"SIM-0": 8}
    gpus.after(120)
    assert replica.slots[1].running
    assert held(gpus, replica) == {"SIM-0": 8}
    gpus.started(replica)
    gpus.state(replica, 1, "ready", sleeps=True)
    gpus.after(3)
    gpus.state(replica, 1, "asleep", sleeps=True)
    assert replica.phase is Phase.ASLEEP
    assert held(gpus, replica) == {}


def test_coming_back_from_sleep_is_not_taken_for_a_load_since_the_process_began(
    gpus: Stage,
) -> None:
    replica = sleeper(gpus)
    before = list(gpus.world.functions["deep"].loads)
    gpus.after(300)
    gpus.wake("deep")
    gpus.after(0.5)
    gpus.ready(replica, sleeps=True)
    assert list(gpus.world.functions["deep"].loads) == before
    assert list(gpus.world.functions["deep"].rouses) == [0.5]


def test_the_requests_of_a_function_count_on_those_of_its_replicas_that_are_awake(
    gpus: Stage,
) -> None:
    """With a sleeper beside it the busy one seemed half as much in demand, and went first."""
    zero(gpus, "third", 16)
    often = serve(gpus, "often", **gpu(10, sleeps="2s", maxReplicas=2))
    for _ in range(4):
        gpus.happen(DemandSeen({"g": {"often": Demand(waiting=3, in_flight=1)}}))
        gpus.after(0.25)
    (spare,) = [one for one in gpus.world.replicas_of("often") if one is not often]
    gpus.started(spare)
    gpus.ready(spare, sleeps=True)
    settle(gpus)
    gpus.after(3)
    gpus.state(spare, 0, "asleep", sleeps=True)
    rare = serve(gpus, "rare", **gpu(10))
    assert rare.devices == spare.devices
    for live in gpus.world.functions.values():
        live.loads.clear()
        live.loads.append(1.0)
    settle(gpus)
    gpus.happen(DemandSeen({"g": {"often": Demand(arrivals=10), "rare": Demand(arrivals=7)}}))
    gpus.wake("third")
    assert rare.draining
    assert "is put to sleep for third" not in gpus.log("often")


def test_a_namesake_inherits_nothing_that_was_cleared(gpus: Stage) -> None:
    gpus.world.ledger.promise("one", ("SIM-0",), 16 * MIB)
    serve(gpus, "one", **gpu(4))
    gpus.world.ledger.promise("one", ("SIM-0",), 16 * MIB)
    namesake = gpus.record("one").model_copy(
        update={"created_at": gpus.clock.epoch() + 1, "serving": None}
    )
    gpus.happen(FunctionSeen("one", namesake))
    assert gpus.world.ledger.promised("one") == {}


def test_one_that_makes_room_is_not_hurried_by_a_new_controller(gpus: Stage) -> None:
    zero(gpus, "third", 16)
    one = serve(gpus, "one", **gpu(16))
    two = serve(gpus, "two", **gpu(16))
    settle(gpus)
    gpus.wake("third")
    (victim,) = [replica for replica in (one, two) if replica.draining]
    assert gpus.effects.drained_within[victim.id] == math.inf
    other = gpus.restart_controller()
    found = other.world.replicas[victim.id]
    other.after(60)
    assert (found.draining, found.terminated) == (True, False)
    other.reconciler.stop_all(drain=True)
    assert other.effects.drained_within[victim.id] == pytest.approx(10.0)


# MIG


def split(*names: str) -> DevicesSeen:
    kinds = {"M": DeviceKind.MIG, "G": DeviceKind.CUDA}
    return DevicesSeen(
        tuple(DeviceSeen(Device(name, kinds[name[0]], 16 * MIB, "", (9, 0))) for name in names)
    )


def test_a_worker_that_would_get_several_mig_instances_is_refused_before_it_is_built(
    stage: Stage,
) -> None:
    stage.happen(split("MIG-a", "MIG-b"))
    stage.deploy("wide", **gpu(4, gpus=2))
    assert stage.record("wide").state is FunctionState.ERROR
    assert "CUDA shows a process only one" in stage.record("wide").message
    assert stage.effects.builds == []
    two = {"http": {"kind": "http", "numWorkers": 2}}
    replica = serve(stage, "pair", **gpu(4, gpus=2, triggers=two))
    assert [slot.devices for slot in replica.slots] == [("MIG-a",), ("MIG-b",)]


def test_beside_mig_instances_one_worker_gets_the_whole_cards(stage: Stage) -> None:
    stage.happen(split("MIG-a", "GPU-a", "MIG-b", "GPU-b"))
    zero(stage, "wide", 16, gpus=2)
    on = {serve(stage, name, **gpu(16)).devices[0]: name for name in "abcd"}
    settle(stage)
    stage.wake("wide")
    gone = {name for name in "abcd" if stage.replica(name).draining}
    assert gone == {on["GPU-a"], on["GPU-b"]}
    for name in gone:
        ends(stage, stage.replica(name))
    assert set(stage.replica("wide").devices) == {"GPU-a", "GPU-b"}
