"""A canary's life in the reconciler, told with fake verbs and a clock that stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stoker.controller.happenings import DemandSeen, DemandUnknown, FunctionSeen
from stoker.controller.view import Replica
from stoker.decide.latency import bucket_of
from stoker.nouns.errors import InvalidFunction
from stoker.nouns.evidence import Side, Tally
from stoker.nouns.function import FunctionConfig
from stoker.nouns.record import Demand, FunctionState
from stoker.nouns.rollout import CANARY_ANNOTATION, Asked, Step, Verb

LENGTH_S = 60
ZERO = {
    "minReplicas": 0,
    "maxReplicas": 3,
    "scaleToZero": {"scaleResources": [{"metricName": "x", "windowSize": "10s"}]},
}
MANY = {"minReplicas": 3, "maxReplicas": 3}


def gpu(memory: str) -> dict[str, Any]:
    return {
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "env": [{"name": "STOKER_GPU_MEMORY", "value": memory}],
    }


def deploy(stage: Any, share: float = 0.2, /, **spec: Any) -> int:
    declared = {"share": share, "length_s": LENGTH_S, "min_requests": 20}
    number: int = stage.deploy(annotations={CANARY_ANNOTATION: json.dumps(declared)}, **spec)
    return number


def begin(stage: Any, share: float = 0.2, /, **spec: Any) -> Replica:
    """A canary's only replica, which has its share by now."""
    number = deploy(stage, share, **spec)
    stage.built(number)
    (replica,) = stage.world.replicas_of("fn", number)
    stage.started(replica)
    stage.ready(replica)
    assert stage.record().canary is not None
    found: Replica = replica
    return found


def tally(canary: int, errors: int = 0, *, id: str = "t1", revision: int = 2) -> Tally:  # noqa: A002
    def side(requests: int, failed: int) -> Side:
        return Side(requests=requests, errors=failed, latency={bucket_of(0.02): requests})

    return Tally(id=id, revision=revision, stable=side(4 * canary, 0), canary=side(canary, errors))


def report(stage: Any, *tallies: Tally, **facts: Any) -> None:
    facts.setdefault("last_active", stage.clock.epoch())
    stage.happen(
        DemandSeen(
            {
                f"gateway-{index}": {"fn": Demand(tally=tally, **facts)}
                for index, tally in enumerate(tallies)
            }
        )
    )


def ask(stage: Any, verb: Verb, who: str = "ann") -> None:
    """The API writes a client's wish."""
    record = stage.record()
    asked = Asked(verb=verb, who=who, at=stage.clock.epoch(), why="had enough")
    canary = record.canary.model_copy(update={"asked": asked})
    stage.effects.functions["fn"] = record.model_copy(update={"canary": canary})
    stage.happen(FunctionSeen("fn", stage.record()))


def steps(stage: Any) -> list[tuple[Step, int]]:
    return [(event.step, event.revision) for event in stage.effects.rollouts]


# Beginning


def test_a_candidate_with_a_canary_gets_its_share_beside_what_serves(stage: Any) -> None:
    old = stage.serve()
    new = begin(stage)
    record = stage.record()
    assert (record.serving.number, record.canary.revision.number) == (1, 2)
    assert record.canary.share == 0.2
    assert record.candidate is None
    assert record.state is FunctionState.READY
    assert record.message == "revision 2 gets 20 % as a canary"
    stage.after(5)
    assert not old.draining
    assert not new.draining
    assert stage.record().message == "revision 2 gets 20 % as a canary"
    assert steps(stage) == [(Step.STARTED, 2)]
    assert "revision 2 gets 20 % as a canary, for 60 s and 20 requests" in stage.log()


def test_the_first_revision_is_no_canary(stage: Any) -> None:
    stage.built(deploy(stage))
    stage.started(stage.replica())
    stage.ready(stage.replica())
    record = stage.record()
    assert (record.serving.number, record.canary) == (1, None)
    assert steps(stage) == []
    assert "nothing serves yet" in stage.log()


def test_a_canary_that_cannot_start_leaves_everything_as_it_was(stage: Any) -> None:
    old = stage.serve()
    number = deploy(stage)
    stage.built(number)
    (replica,) = stage.world.replicas_of("fn", number)
    stage.started(replica)
    stage.state(replica, 0, "failed", "no such module")
    stage.dies(replica, 0)
    record = stage.record()
    assert (record.serving.number, record.canary) == (1, None)
    assert record.state is FunctionState.UNHEALTHY
    assert not old.draining


def test_a_canary_has_one_replica_and_more_only_by_its_share(stage: Any) -> None:
    stage.built(stage.deploy(**MANY))
    for replica in stage.world.replicas_of("fn"):
        stage.started(replica)
        stage.ready(replica)
    begin(stage, 0.5, **MANY)
    stage.after(1)
    assert len(stage.world.replicas_of("fn", 2)) == 1
    report(stage, tally(0), in_flight=3, waiting=1)
    assert len(stage.world.replicas_of("fn", 2)) == 2


def test_what_serves_is_not_scaled_by_the_canarys_work(stage: Any) -> None:
    many = {"minReplicas": 1, "maxReplicas": 3}
    stage.serve(**many)
    new = begin(stage, 0.5, **many)
    for _ in range(4):
        report(stage, tally(0), in_flight=1, waiting=1, by_replica={new.id: 1})
        stage.after(0.25)
    assert len(stage.world.replicas_of("fn", 1)) == 1
    for _ in range(4):
        report(stage, tally(0), in_flight=1, waiting=1, by_replica={})
        stage.after(0.25)
    assert len(stage.world.replicas_of("fn", 1)) == 2


# What is counted


def test_a_good_canary_serves_when_its_time_is_up(stage: Any) -> None:
    old = stage.serve()
    new = begin(stage)
    report(stage, tally(100))
    stage.after(LENGTH_S - 1)
    assert stage.record().canary is not None
    stage.after(1.5)
    record = stage.record()
    assert (record.serving.number, record.canary, record.message) == (2, None, "")
    assert old.draining
    assert not new.draining
    last = stage.effects.rollouts[-1]
    assert (last.step, last.who, last.stable) == (Step.PROMOTED, "stoker", 1)
    assert last.evidence["canary"]["requests"] == 100
    stage.dies(old, status=0)
    assert stage.effects.removed_code[-1] == ("fn", frozenset({2}))


def test_a_canary_that_nobody_asks_waits_for_its_requests(stage: Any) -> None:
    stage.serve()
    begin(stage)
    report(stage, tally(19))
    stage.after(10 * LENGTH_S)
    assert stage.record().canary is not None
    report(stage, tally(20))
    assert stage.record().serving.number == 2


def test_a_bad_canary_is_rolled_back_at_the_next_report_and_finishes_what_it_has(
    stage: Any,
) -> None:
    old = stage.serve()
    new = begin(stage)
    report(stage, tally(30, errors=10))
    record = stage.record()
    assert (record.serving.number, record.canary) == (1, None)
    assert not old.draining
    assert new.draining
    assert not [kill for kill in stage.effects.killed if kill[0] == new.id]
    assert stage.effects.rollouts[-1].step is Step.ROLLED_BACK
    assert "10 of 30 requests failed (33.3%)" in stage.effects.rollouts[-1].why
    assert "was rolled back by stoker: 10 of 30 requests failed" in stage.log()
    stage.dies(new, status=0)
    assert stage.effects.removed_code[-1] == ("fn", frozenset({1}))


def test_gateways_are_added_up_and_a_restarted_one_loses_and_doubles_nothing(stage: Any) -> None:
    stage.serve()
    begin(stage)
    report(stage, tally(10, 1, id="a"), tally(5, 0, id="b"))
    report(stage, tally(12, 1, id="a"), tally(6, 0, id="b"))
    report(stage, tally(2, 0, id="c"), tally(6, 0, id="b"))
    report(stage, tally(9, 9, id="d", revision=7))
    seen = stage.world.functions["fn"].watch.evidence
    assert (seen.canary.requests, seen.canary.errors, seen.stable.requests) == (20, 1, 80)


def test_while_the_store_is_away_nothing_is_judged_and_no_time_counts(stage: Any) -> None:
    stage.serve()
    begin(stage)
    report(stage, tally(100))
    stage.happen(DemandUnknown())
    stage.after(10 * LENGTH_S)
    assert stage.record().canary is not None
    report(stage, tally(100))
    stage.after(LENGTH_S / 2)
    assert stage.record().canary is not None
    stage.after(LENGTH_S / 2 + 1)
    assert stage.record().serving.number == 2


def test_a_canary_that_is_to_serve_first_has_the_replicas_for_it(stage: Any) -> None:
    stage.deploy(**MANY)
    stage.built(1)
    old = stage.world.replicas_of("fn")
    for replica in old:
        stage.started(replica)
        stage.ready(replica)
    begin(stage, 0.05, **MANY)
    report(stage, tally(100))
    stage.after(LENGTH_S + 1)
    mine = stage.world.replicas_of("fn", 2)
    assert len(mine) == 3
    assert stage.record().serving.number == 1
    assert not any(replica.draining for replica in old)
    for replica in mine:
        stage.started(replica)
        stage.ready(replica)
    assert stage.record().serving.number == 2
    assert all(replica.draining for replica in old)


# Its workers


def test_a_canarys_dead_worker_is_replaced_and_the_third_rolls_it_back(stage: Any) -> None:
    old = stage.serve()
    new = begin(stage)
    for _ in range(2):
        stage.dies(new)
        stage.after(0.5)
        assert stage.record().canary is not None
        stage.started(new)
        stage.ready(new)
    stage.dies(new)
    stage.after(0.5)
    record = stage.record()
    assert (record.serving.number, record.canary) == (1, None)
    assert "its workers died 3 times" in stage.effects.rollouts[-1].why
    assert not old.draining
    assert stage.world.functions["fn"].crashes == []


def test_a_promotion_by_hand_of_what_cannot_live_ends_all_the_same(stage: Any) -> None:
    stage.serve(**MANY | {"minReplicas": 1})
    new = begin(stage, **MANY | {"minReplicas": 1})
    stage.dies(new)
    ask(stage, Verb.PROMOTE)
    assert stage.record().serving.number == 1
    for _ in range(2):
        stage.after(0.5)
        stage.started(new)
        stage.dies(new)
    assert stage.record().canary is None
    assert stage.record().serving.number == 1
    assert stage.effects.rollouts[-1].step is Step.ROLLED_BACK


# By hand


def test_a_client_may_abort_and_its_name_is_kept(stage: Any) -> None:
    stage.serve()
    new = begin(stage)
    ask(stage, Verb.ABORT)
    assert (stage.record().serving.number, stage.record().canary) == (1, None)
    assert new.draining
    last = stage.effects.rollouts[-1]
    assert (last.step, last.who, last.why) == (Step.ABORTED, "ann", "had enough")


def test_a_client_may_promote_before_its_time(stage: Any) -> None:
    old = stage.serve()
    begin(stage)
    ask(stage, Verb.PROMOTE)
    assert stage.record().serving.number == 2
    assert old.draining
    assert stage.effects.rollouts[-1].who == "ann"


def test_the_newest_deployment_ends_a_canary(stage: Any) -> None:
    old = stage.serve()
    new = begin(stage)
    number = stage.deploy()
    assert stage.record().canary is None
    assert new.draining
    assert not old.draining
    assert (Step.SUPERSEDED, 2) in steps(stage)
    stage.built(number)
    (third,) = stage.world.replicas_of("fn", 3)
    stage.started(third)
    stage.ready(third)
    assert stage.record().serving.number == 3


def test_a_deletion_ends_both(stage: Any) -> None:
    old = stage.serve()
    new = begin(stage)
    del stage.effects.functions["fn"]
    stage.happen(FunctionSeen("fn", None))
    assert old.draining
    assert new.draining


def test_to_zero_puts_both_to_zero_and_the_next_request_brings_both_back(stage: Any) -> None:
    old = stage.serve(**ZERO)
    new = begin(stage, **ZERO)
    record = stage.record().model_copy(update={"desired_zero": True})
    stage.effects.functions["fn"] = record
    stage.happen(FunctionSeen("fn", record))
    assert old.draining
    assert new.draining
    stage.dies(old, status=0)
    stage.dies(new, status=0)
    stage.wake()
    assert {r.revision for r in stage.world.replicas_of("fn")} == {1, 2}
    assert stage.record().canary is not None


def test_what_serves_goes_to_zero_beside_a_canary_that_stays_awake(stage: Any) -> None:
    old = stage.serve(**ZERO)
    new = begin(stage, **ZERO)
    stage.quiet()
    stage.after(11)
    assert old.draining
    assert not new.draining
    stage.dies(old, status=0)
    assert stage.record().state is FunctionState.SCALED_TO_ZERO
    stage.wake()
    assert len(stage.world.replicas_of("fn", 1)) == 1


# Restarts


def test_another_controller_goes_on_with_the_evidence_and_the_time(stage: Any) -> None:
    stage.serve()
    begin(stage)
    report(stage, tally(15, 1))
    stage.after(LENGTH_S / 2)
    other = stage.restart_controller()
    for replica in other.world.replicas.values():
        other.ready(replica)
    assert steps(other) == [(Step.RESUMED, 2)]
    report(other, tally(10, 0, id="t2"))
    assert other.world.functions["fn"].watch.evidence.canary.requests == 25
    other.after(LENGTH_S / 2 + 6)
    # One of 25 failed, which may be chance: it is neither promoted yet nor rolled back.
    assert other.record().canary is not None
    report(other, tally(200, 0, id="t2"))
    assert other.record().serving.number == 2


def test_a_controller_that_finds_a_bad_canary_rolls_it_back(stage: Any) -> None:
    stage.serve()
    begin(stage)
    report(stage, tally(19, 19))
    stage.after(6)
    other = stage.restart_controller()
    report(other, tally(1, 1, id="t2"))
    assert (other.record().serving.number, other.record().canary) == (1, None)


def test_when_all_was_away_both_revisions_come_back(stage: Any) -> None:
    stage.serve()
    begin(stage)
    stage.effects.replicas.clear()
    other = stage.restart_controller()
    assert {replica.revision for replica in other.world.replicas.values()} == {1, 2}


def test_a_reading_of_the_store_that_was_overtaken_brings_no_canary_back(stage: Any) -> None:
    stage.serve()
    begin(stage)
    before = stage.record()
    report(stage, tally(30, errors=30))
    after = stage.record()
    stage.happen(FunctionSeen("fn", before))
    stage.happen(FunctionSeen("fn", after))
    assert [step for step, _ in steps(stage)] == [Step.STARTED, Step.ROLLED_BACK]


def test_an_end_that_the_store_did_not_take_is_asked_for_again(stage: Any) -> None:
    stage.serve()
    begin(stage)
    stage.effects.store_is_away = True
    report(stage, tally(30, errors=30))
    assert stage.record().canary is not None
    stage.effects.store_is_away = False
    stage.after(11)
    assert stage.record().canary is None


# Devices


def test_a_canary_on_time_is_not_evicted_and_one_that_nobody_asks_gives_way(gpus: Any) -> None:
    old = gpus.serve(**gpu("10MiB"), **ZERO)
    new = begin(gpus, **gpu("10MiB"), **ZERO)
    gpus.quiet()
    gpus.after(11)
    gpus.dies(old, status=0)
    gpus.built(gpus.deploy("other", **gpu("10MiB"), **ZERO), "other")
    other = gpus.replica("other")
    gpus.started(other)
    gpus.ready(other)
    gpus.built(gpus.deploy("third", **gpu("10MiB")), "third")
    gpus.after(1)
    assert not new.draining
    assert other.draining
    gpus.dies(other, status=0)
    third = gpus.replica("third")
    gpus.started(third)
    gpus.ready(third)
    gpus.after(2 * LENGTH_S)
    assert not new.draining
    gpus.built(gpus.deploy("fourth", **gpu("10MiB")), "fourth")
    gpus.after(1)
    assert new.draining


def test_a_canary_waits_for_room_that_another_function_has(gpus: Any) -> None:
    old = gpus.serve(**gpu("10MiB"))
    other = gpus.serve("other", **gpu("10MiB"))
    gpus.built(deploy(gpus, **gpu("10MiB")))
    assert gpus.record().state is FunctionState.CONFIGURING
    del gpus.effects.functions["other"]
    gpus.happen(FunctionSeen("other", None))
    gpus.dies(other, status=0)
    (new,) = gpus.world.replicas_of("fn", 2)
    gpus.started(new)
    gpus.ready(new)
    assert gpus.record().canary is not None
    assert not old.draining


def test_a_canary_is_refused_where_the_replicas_of_what_serves_leave_no_room(gpus: Any) -> None:
    gpus.built(gpus.deploy(**gpu("10MiB"), minReplicas=2, maxReplicas=2))
    old = gpus.world.replicas_of("fn")
    for replica in old:
        gpus.started(replica)
        gpus.ready(replica)
    gpus.built(deploy(gpus, **gpu("10MiB")))
    assert gpus.record().state is FunctionState.ERROR
    assert "a canary needs both revisions at once" in gpus.record().message
    assert not any(replica.draining for replica in old)


def test_a_canary_that_does_not_fit_beside_what_serves_fails_and_nothing_is_stopped(
    gpus: Any,
) -> None:
    wide = gpu("10MiB")
    wide["resources"] = {"limits": {"nvidia.com/gpu": 2}}
    wide["env"] = [{"name": "STOKER_GPU_MEMORY", "value": "20MiB"}]
    number = gpus.deploy(**wide)
    gpus.built(number)
    old = gpus.replica()
    gpus.started(old)
    gpus.ready(old)
    gpus.built(deploy(gpus, **wide))
    record = gpus.record()
    assert record.state is FunctionState.ERROR
    assert "a canary needs both revisions at once" in record.message
    assert "this home has" in gpus.log()
    assert record.serving.number == 1
    assert not old.draining


@pytest.mark.parametrize("annotation", ["{", '{"share": 2}', '{"shares": 0.1}', "[]"])
def test_a_canary_that_cannot_be_read_is_refused_at_the_deploy(annotation: str) -> None:
    document = {"metadata": {"name": "fn", "annotations": {CANARY_ANNOTATION: annotation}}}
    with pytest.raises(InvalidFunction, match=r"stoker\.io/canary must be JSON") as refused:
        FunctionConfig.parse(document)
    assert refused.value.detail["fields"][0]["field"] == "metadata.annotations"
