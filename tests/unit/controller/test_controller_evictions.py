"""Functions that do not fit together on the devices: who goes and who waits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stoker.controller.happenings import DemandSeen, DemandUnknown, FunctionSeen, WorkerStated
from stoker.nouns.record import Demand, FunctionState

PATIENT = {"minReplicas": 0, "scaleToZero": {"scaleResources": [{"windowSize": "600s"}]}}


MIB = 1024**2


def gpu(memory: str, count: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "resources": {"limits": {"nvidia.com/gpu": count}},
        "env": [{"name": "STOKER_GPU_MEMORY", "value": f"{memory}MiB"}] if memory else [],
        **PATIENT,
        **spec,
    }


def settle(stage: Any) -> None:
    """Nothing has work, and everybody has been there for a while."""
    stage.quiet()
    stage.after(1.0)


def gone(stage: Any, replica: Any) -> None:
    for slot in replica.slots:
        stage.dies(replica, slot.index, status=0)


def arrivals(stage: Any, **counts: int) -> None:
    """The gateway reports how many requests each function has had."""
    seen = {name: Demand(arrivals=count) for name, count in counts.items()}
    stage.happen(DemandSeen({"gateway-1": seen}))


def two_that_fill_the_cards(stage: Any, **spec: Any) -> tuple[Any, Any]:
    first, second = (stage.serve(name, **gpu("16", **spec)) for name in ("one", "two"))
    for function in stage.world.functions.values():
        function.loads.clear()
        function.loads.append(1.0)
    settle(stage)
    return first, second


def zero_now(stage: Any, name: str) -> None:
    """Deployed, and at zero: its replica made room for nobody, it was put to sleep."""
    replica = stage.serve(name, **gpu("16"))
    stage.effects.functions[name] = stage.record(name).model_copy(update={"desired_zero": True})
    stage.happen(FunctionSeen(name, stage.record(name)))
    gone(stage, replica)


def test_an_idle_replica_makes_room_for_a_function_that_is_woken(gpus: Any) -> None:
    zero_now(gpus, "third")
    one, two = two_that_fill_the_cards(gpus)
    arrivals(gpus, one=50, two=1)
    gpus.wake("third")
    assert (one.draining, two.draining) == (False, True), "the one that is asked for less"
    gone(gpus, two)
    (third,) = gpus.world.replicas_of("third")
    assert third.devices == two.devices
    assert gpus.record("two").state is FunctionState.SCALED_TO_ZERO
    assert f"replica {two.id} is evicted for third (16.0 MiB of" in gpus.log("two")
    assert "two makes room" in gpus.log("third")
    assert gpus.world.ledger.used() == {"SIM-0": 16 * MIB, "SIM-1": 16 * MIB}


def test_what_was_evicted_wakes_again_at_its_next_request(gpus: Any) -> None:
    zero_now(gpus, "third")
    _, two = two_that_fill_the_cards(gpus)
    arrivals(gpus, one=50, two=1)
    gpus.wake("third")
    gpus.wake("two")
    gone(gpus, two)
    (third,) = gpus.world.replicas_of("third")
    gpus.started(third)
    gpus.ready(third)
    settle(gpus)
    gpus.happen(DemandSeen({"g": {"two": Demand(waiting=1), "one": Demand(in_flight=1)}}))
    assert third.draining
    gone(gpus, third)
    assert len(gpus.world.replicas_of("two")) == 1


@pytest.mark.parametrize(
    "seen",
    [
        Demand(in_flight=1),
        Demand(waiting=1),
    ],
)
def test_a_replica_that_has_work_or_may_have_is_not_evicted(gpus: Any, seen: Demand) -> None:
    zero_now(gpus, "third")
    one, two = two_that_fill_the_cards(gpus)
    gpus.happen(DemandSeen({"g": {"one": seen, "two": seen}}))
    gpus.wake("third")
    assert not one.draining
    assert not two.draining
    assert "waiting for GPU memory held by" in gpus.record("third").message


def test_what_min_replicas_needs_stays_however_long_others_wait(gpus: Any) -> None:
    zero_now(gpus, "third")
    one, two = two_that_fill_the_cards(gpus, minReplicas=1)
    gpus.wake("third")
    for _ in range(200):
        gpus.happen(DemandSeen({"g": {"third": Demand(waiting=1)}}))
        gpus.after(0.25)
    assert not any(replica.draining for replica in (one, two))


def test_waiting_for_a_card_is_no_part_of_a_wakes_time(gpus: Any) -> None:
    """The 90th percentile was 2 minutes from then on, and ``Retry-After`` said so."""
    zero_now(gpus, "third")
    one, two = two_that_fill_the_cards(gpus)
    busy = Demand(in_flight=1)
    gpus.happen(DemandSeen({"g": {"one": busy, "two": busy}}))
    gpus.wake("third")
    while not (one.draining or two.draining):
        gpus.happen(DemandSeen({"g": {"one": busy, "two": busy, "third": Demand(waiting=1)}}))
        gpus.after(0.25)
    gone(gpus, one if one.draining else two)
    (third,) = gpus.world.replicas_of("third")
    gpus.started(third)
    gpus.after(1.0)
    gpus.ready(third)
    assert list(gpus.world.functions["third"].wakes) == [pytest.approx(1.0, abs=0.3)]


def test_a_waiting_function_gets_its_turn_from_one_that_is_never_idle(gpus: Any) -> None:
    zero_now(gpus, "third")
    one, two = two_that_fill_the_cards(gpus)
    start, busy = gpus.clock.time, Demand(in_flight=1)
    gpus.happen(DemandSeen({"g": {"one": busy, "two": busy}}))
    gpus.wake("third")
    while not (one.draining or two.draining):
        gpus.happen(DemandSeen({"g": {"one": busy, "two": busy, "third": Demand(waiting=1)}}))
        gpus.after(0.25)
    assert 8.0 <= gpus.clock.time - start <= 9.0, "four times the two loads of a swap"
    (victim,) = [replica for replica in (one, two) if replica.draining]
    assert victim.drain_deadline == math.inf
    gpus.after(600)
    assert victim.id not in {replica for replica, *_ in gpus.effects.killed}


def test_the_bytes_that_are_cleared_for_one_are_not_taken_by_another(gpus: Any) -> None:
    zero_now(gpus, "third")
    zero_now(gpus, "fourth")
    one, two = two_that_fill_the_cards(gpus)
    busy = {"one": Demand(in_flight=1)}
    gpus.happen(DemandSeen({"g": busy}))
    gpus.wake("third")
    gpus.wake("fourth")
    assert two.draining
    assert not one.draining
    gone(gpus, two)
    assert len(gpus.world.replicas_of("third")) == 1
    assert gpus.world.replicas_of("fourth") == []


def test_a_function_that_is_deleted_while_room_is_made_keeps_nothing(gpus: Any) -> None:
    zero_now(gpus, "third")
    _, two = two_that_fill_the_cards(gpus)
    gpus.happen(DemandSeen({"g": {"one": Demand(in_flight=1)}}))
    gpus.wake("third")
    del gpus.effects.functions["third"]
    gpus.happen(FunctionSeen("third", None))
    gone(gpus, two)
    assert gpus.world.ledger.free_for("anyone") == gpus.world.ledger.free()


def test_a_deployment_evicts_what_is_idle_and_its_own_old_revision_serves_on(gpus: Any) -> None:
    old, other = two_that_fill_the_cards(gpus)
    gpus.built(gpus.deploy("one", **gpu("16")), "one")
    assert (old.draining, other.draining) == (False, True)
    gone(gpus, other)
    (new,) = gpus.world.replicas_of("one", 2)
    assert new.devices == other.devices
    assert "Recreate" not in gpus.log("one")


def test_whole_cards_are_cleared_for_a_function_of_unknown_size(gpus: Any) -> None:
    replica = gpus.serve("whole", **gpu("", 2))
    gpus.effects.functions["whole"] = gpus.record("whole").model_copy(update={"desired_zero": True})
    gpus.happen(FunctionSeen("whole", gpus.record("whole")))
    gone(gpus, replica)
    one, two = gpus.serve("one", **gpu("9")), gpus.serve("two", **gpu("9"))
    settle(gpus)
    gpus.wake("whole")
    assert one.draining
    assert two.draining
    gone(gpus, one)
    assert gpus.world.replicas_of("whole") == []
    gone(gpus, two)
    assert set(gpus.replica("whole").devices) == {"SIM-0", "SIM-1"}


def test_nobody_is_evicted_while_the_demand_is_unknown(gpus: Any) -> None:
    zero_now(gpus, "third")
    one, two = two_that_fill_the_cards(gpus)
    gpus.happen(DemandUnknown())
    gpus.wake("third")
    assert not any(replica.draining for replica in (one, two))


def test_shutting_down_does_not_wait_for_ever_for_what_was_evicted(gpus: Any) -> None:
    zero_now(gpus, "third")
    _, two = two_that_fill_the_cards(gpus)
    gpus.happen(DemandSeen({"g": {"one": Demand(in_flight=1)}}))
    gpus.wake("third")
    gpus.reconciler.stop_all(drain=True)
    assert two.drain_deadline == gpus.clock.time + 10.0


def test_a_replica_beyond_the_first_presses_nobody_out(gpus: Any) -> None:
    one = gpus.serve("one", **gpu("16", maxReplicas=2))
    two = gpus.serve("two", **gpu("16"))
    settle(gpus)
    busy = {"one": Demand(in_flight=1, waiting=4, by_replica={one.id: 1})}
    for _ in range(200):
        gpus.happen(DemandSeen({"g": {**busy, "two": Demand(in_flight=1, by_replica={two.id: 1})}}))
        gpus.after(0.25)
    assert not two.draining


def test_the_peak_that_a_worker_tells_when_it_goes_places_the_next_one(gpus: Any) -> None:
    replica = gpus.serve(**gpu(""))
    assert gpus.world.ledger.held(replica.id) == {"SIM-0": 16 * MIB}, "unknown: the whole card"
    gpus.demand(answered=3)
    settle(gpus)
    gpus.happen(WorkerStated(replica.id, 0, "draining", 100, device_bytes=5 * MIB))
    assert gpus.record().serving.model.measured == 5 * MIB
    gone(gpus, replica)
    gpus.wake()
    assert gpus.world.ledger.held(gpus.replica().id) == {"SIM-0": 5 * MIB * 11 // 10}
    gpus.happen(WorkerStated(gpus.replica().id, 0, "draining", 100, device_bytes=4 * MIB))
    assert gpus.record().serving.model.measured == 5 * MIB


def test_the_peak_of_one_that_never_served_says_nothing(gpus: Any) -> None:
    replica = gpus.serve(**gpu(""))
    gpus.happen(WorkerStated(replica.id, 0, "draining", 100, device_bytes=5 * MIB))
    assert gpus.record().serving.model is None


def test_a_newer_candidate_that_needs_more_is_not_kept_waiting_for_what_was_cleared(
    gpus: Any,
) -> None:
    one, two = (gpus.serve(name, **gpu("8")) for name in ("one", "two"))
    assert one.devices == two.devices
    filler = gpus.serve("filler", **gpu("16", minReplicas=1))
    settle(gpus)
    gpus.built(gpus.deploy("third", **gpu("8")), "third")
    assert one.draining is not two.draining
    gpus.built(gpus.deploy("third", **gpu("16")), "third")
    gpus.after(1.0)
    assert one.draining
    assert two.draining
    gone(gpus, one)
    gone(gpus, two)
    (third,) = gpus.world.replicas_of("third", 2)
    assert third.device_bytes == 16 * MIB
    assert not filler.draining


def test_a_deployment_gives_up_when_what_makes_room_for_it_never_ends(gpus: Any) -> None:
    _, two = two_that_fill_the_cards(gpus)
    gpus.happen(DemandSeen({"g": {"one": Demand(in_flight=1)}}))
    gpus.built(gpus.deploy("third", readinessTimeoutSeconds=20, **gpu("16")), "third")
    assert two.draining
    gpus.after(21)
    assert gpus.record("third").state is FunctionState.ERROR
    assert "no GPU became free within 20 s" in gpus.record("third").message
    assert not gpus.world.ledger.promised("third")


def test_a_deployment_that_got_no_card_says_who_holds_them_and_the_ways_out(gpus: Any) -> None:
    """It ended after 2 minutes with "no GPU became free within 120 s", and nothing else."""
    one, two = (gpus.serve(name, **gpu("", minReplicas=1)) for name in ("one", "two"))
    settle(gpus)
    gpus.built(gpus.deploy("third", **gpu("")), "third")
    assert gpus.log("third").endswith(
        f"waiting for GPU memory held by {one.id}, {two.id}; "
        "none of these replicas gives way: minReplicas keeps them (one, two)"
    )
    gpus.after(121)
    assert gpus.record("third").message == (
        "no GPU became free within 120 s: "
        f"{one.id} holds all of SIM-0 (minReplicas 1), {two.id} holds all of SIM-1 (minReplicas 1)."
        " Ways out: declare STOKER_GPU_MEMORY on third, and on one or two (without it a "
        "function takes whole cards); or set minReplicas: 0 on one or two (an idle one then gives "
        "way)"
    )


def test_only_what_would_help_is_a_way_out(gpus: Any) -> None:
    one = gpus.serve("one", **gpu("8", minReplicas=1))
    two = gpus.serve("two", **gpu(""))
    settle(gpus)
    gpus.happen(DemandSeen({"g": {"two": Demand(in_flight=1)}}))
    gpus.built(gpus.deploy("third", readinessTimeoutSeconds=1, **gpu("16")), "third")
    assert gpus.log("third").endswith(f"held by {one.id}, {two.id}")
    gpus.after(1.5)
    assert gpus.record("third").message == (
        f"no GPU became free within 1 s: {one.id} holds 8.0 MiB of SIM-0 (minReplicas 1), "
        f"{two.id} holds all of SIM-1. Ways out: declare STOKER_GPU_MEMORY on two (without it a "
        "function takes whole cards); or set minReplicas: 0 on one (an idle one then gives way)"
    )


def test_a_wake_that_waits_for_what_never_goes_says_so(gpus: Any) -> None:
    zero_now(gpus, "third")
    one, two = two_that_fill_the_cards(gpus, minReplicas=1)
    gpus.wake("third")
    assert gpus.record("third").message == (
        f"waiting for GPU memory held by {one.id}, {two.id}; "
        "none of these replicas gives way: minReplicas keeps them (one, two)"
    )
    gpus.effects.functions["one"] = gpus.record("one").model_copy(update={"desired_zero": True})
    gpus.happen(FunctionSeen("one", gpus.record("one")))
    gpus.after(0.25)
    assert gpus.record("third").message == f"waiting for GPU memory held by {one.id}, {two.id}"


def test_what_a_former_controller_started_is_not_taken_for_a_load_of_hours(gpus: Any) -> None:
    replica = gpus.serve("one", **gpu("16"))
    gpus.after(60)
    other = gpus.restart_controller()
    other.state(other.world.replicas[replica.id], 0, "ready")
    assert not other.world.functions["one"].loads
    assert list(gpus.world.functions["one"].loads) == [0.0]


def test_a_new_controller_does_not_take_all_requests_of_the_past_for_those_of_now(
    gpus: Any,
) -> None:
    gpus.serve("one", **gpu("16"))
    arrivals(gpus, one=5)
    assert gpus.world.functions["one"].rate.per_second(gpus.clock.time) > 0.5
    other = gpus.restart_controller()
    arrivals(other, one=90_000)
    assert other.world.functions["one"].rate.per_second(gpus.clock.time) == 0.0
    arrivals(other, one=90_005)
    assert 0.5 < other.world.functions["one"].rate.per_second(gpus.clock.time) < 2.0
