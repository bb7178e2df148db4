"""A Redis that comes back with less than it had: what the controller knows is not lost with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fake_store import FakeStore
from stoker.controller.controller import Controller
from stoker.controller.happenings import FunctionSeen, Snapshot
from stoker.controller.settings import ControllerSettings
from stoker.nouns.event import Topic
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, FunctionState, Revision
from stoker.nouns.rollout import CANARY_ANNOTATION


def comes_back(stage: Any, *left: FunctionRecord, code: frozenset[str] = frozenset()) -> None:
    """With these records and no others; nothing of it is announced."""
    stage.effects.functions = {record.name: record for record in left}
    stage.effects.replicas.clear()
    functions = dict(stage.effects.functions)
    stage.happen(Snapshot(functions, {}, after_loss=True, rewound=True, code=code))


def deployed_since(name: str = "new") -> FunctionRecord:
    document: dict[str, Any] = {"metadata": {"name": name}, "spec": {}}
    candidate = Revision(number=1, document=document)
    return FunctionRecord(name=name, candidate=candidate, last_revision=1, created_at=99.0)


def test_a_deploy_that_is_sooner_than_the_controller_deletes_nothing(stage: Any) -> None:
    """One record of somebody else's was taken for the whole truth: all other functions were ended
    and their code removed."""
    replica = stage.serve()
    known = stage.record()
    comes_back(stage, deployed_since(), code=frozenset({"fn"}))
    stage.after(1)
    assert stage.record() == known
    assert replica.id in stage.effects.replicas
    assert not replica.draining
    assert [removal for removal in stage.effects.removed_code if not removal[1]] == []
    assert stage.world.functions["new"].rollout is not None


def test_a_replica_that_is_written_sooner_than_the_functions_deletes_nothing(stage: Any) -> None:
    replica = stage.serve()
    stage.effects.functions.clear()
    stage.happen(Snapshot({}, dict(stage.effects.replicas), after_loss=True, rewound=True))
    stage.after(1)
    assert "fn" in stage.effects.functions
    assert not replica.draining


def test_a_record_from_before_is_written_over(stage: Any) -> None:
    """Gateways would have routed nothing to a revision that the store calls a candidate."""
    stage.deploy()
    stage.built(1)
    before = stage.record()
    stage.started(stage.replica())
    stage.ready(stage.replica())
    assert stage.record().serving is not None
    comes_back(stage, before)
    assert stage.record().serving is not None
    assert stage.record().state is FunctionState.READY


def test_a_canary_that_is_over_does_not_come_back(stage: Any) -> None:
    stage.serve()
    annotations = {CANARY_ANNOTATION: json.dumps({"share": 0.2})}
    stage.deploy(annotations=annotations)
    stage.built(2)
    (tried,) = stage.world.replicas_of("fn", 2)
    stage.started(tried)
    stage.ready(tried)
    before = stage.record()
    assert before.canary is not None
    for _ in range(3):
        stage.dies(tried)
        stage.after(1)
        stage.started(tried)
    assert stage.record().canary is None
    comes_back(stage, before)
    stage.after(1)
    assert stage.record().canary is None
    assert stage.record().serving.number == 1


def test_a_failure_that_was_forgotten_is_told_again(stage: Any) -> None:
    """A client that waits for the deploy would wait for ever."""
    stage.deploy()
    stage.built(1)
    before = stage.record()
    stage.started(stage.replica())
    stage.state(stage.replica(), 0, "failed", "no such module")
    stage.dies(stage.replica(), status=1)
    assert stage.record().state is FunctionState.UNHEALTHY
    comes_back(stage, before)
    assert stage.record().state is FunctionState.UNHEALTHY


def test_what_was_deleted_while_the_connection_was_lost_is_deleted(stage: Any) -> None:
    replica = stage.serve()
    stage.serve("kept")
    del stage.effects.functions["fn"]
    functions = dict(stage.effects.functions)
    stage.happen(Snapshot(functions, dict(stage.effects.replicas), after_loss=True))
    assert replica.draining
    assert "fn" not in stage.effects.functions


@pytest.mark.parametrize("lost", ["the switch", "the build"])
def test_a_step_of_a_deployment_that_the_store_never_shows_is_taken_again(
    stage: Any, lost: str
) -> None:
    stage.deploy()
    stage.effects.store_is_away = lost == "the build"
    stage.built(1)
    if lost == "the switch":
        stage.started(stage.replica())
        stage.effects.store_is_away = True
        stage.ready(stage.replica())
    stage.effects.store_is_away = False
    stage.after(9)
    assert stage.record().serving is None
    stage.after(2)
    if lost == "the build":
        stage.built(1)
        stage.started(stage.replica())
        stage.ready(stage.replica())
    assert stage.record().serving.number == 1
    assert stage.record().state is FunctionState.READY


# The shell


async def read_until_known(controller: Controller, store: FakeStore, *topics: Topic) -> Snapshot:
    """What it makes of a store that told these before."""
    for topic in topics:
        store.announce(topic)
    while True:
        event = await controller._events.get()
        if isinstance(event, Snapshot):
            return event
        assert not isinstance(event, FunctionSeen)


async def test_the_snapshot_says_that_the_store_forgot(tmp_path: Any) -> None:
    import asyncio

    store: Any = FakeStore()
    store.unreadable_functions = frozenset
    controller = Controller(store, Home(tmp_path), ControllerSettings(devices="cpu"))
    watching = asyncio.create_task(controller._observe_store())
    async with asyncio.timeout(20):
        assert not (await read_until_known(controller, store)).rewound
        topics = (Topic.LOST, Topic.REWOUND, Topic.RESYNC)
        assert (await read_until_known(controller, store, *topics)).rewound
        assert not (await read_until_known(controller, store, Topic.RESYNC)).rewound
    watching.cancel()


async def test_while_the_watch_is_lost_nothing_is_read_that_could_be_another_redis(
    tmp_path: Any,
) -> None:
    store: Any = FakeStore()
    store.unreadable_functions = frozenset
    controller = Controller(store, Home(tmp_path), ControllerSettings(devices="cpu"))
    controller._missed = controller._lost = True
    await controller._read_all()
    assert controller._events.empty()
