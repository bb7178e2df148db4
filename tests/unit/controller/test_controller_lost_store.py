"""A Redis that comes back with less than it had: what the controller knows is not lost with it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from fake_store import FakeStore
from stoker.controller.controller import Controller
from stoker.controller.happenings import Snapshot
from stoker.controller.settings import ControllerSettings
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


class Forgetful(FakeStore):
    """Counts what it announces, until it forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 9

    async def announced(self) -> int:
        return self.count

    def unreadable_functions(self) -> frozenset[str]:
        return frozenset()

    async def read_demand(self) -> dict[str, Any]:
        return {}

    async def heartbeat_replicas(self, ids: list[str]) -> set[str]:
        return set(ids) - self.replicas.keys()


def controller_of(store: Any, tmp_path: Any) -> Controller:
    return Controller(store, Home(tmp_path), ControllerSettings(devices="cpu"))


async def snapshots(controller: Controller) -> list[Snapshot]:
    """What a tick makes of the store."""
    await controller._tick()
    told = []
    while not controller._events.empty():
        event = controller._events.get_nowait()
        if isinstance(event, Snapshot):
            told.append(event)
    return told


async def test_a_store_that_forgot_is_noticed_at_the_next_tick(tmp_path: Any) -> None:
    """Nobody announces it: gateways refused every name until somebody deployed something."""
    store = Forgetful()
    controller = controller_of(store, tmp_path)
    assert await snapshots(controller) == []
    store.count = 10
    assert await snapshots(controller) == []
    store.count = 1
    (told,) = await snapshots(controller)
    assert told.rewound
    assert await snapshots(controller) == []


async def test_replicas_that_a_store_forgot_with_all_else_are_no_reason_to_delete(
    tmp_path: Any,
) -> None:
    store = Forgetful()
    controller = controller_of(store, tmp_path)
    await snapshots(controller)
    world = SimpleNamespace(replicas={"r1": None})
    controller._reconciler = SimpleNamespace(world=world)  # type: ignore[assignment]
    store.count = 0
    await controller._heartbeat()
    (told,) = await snapshots(controller)
    assert told.rewound


async def test_while_the_watch_is_lost_nothing_is_read_that_could_be_another_redis(
    tmp_path: Any,
) -> None:
    store = Forgetful()
    controller = controller_of(store, tmp_path)
    await snapshots(controller)
    store.count, controller._lost = 0, True
    assert await snapshots(controller) == []
    controller._lost = False
    (told,) = await snapshots(controller)
    assert told.rewound, "what it saw meanwhile is not forgotten"


async def test_a_store_that_forgets_while_it_is_read_is_read_again(tmp_path: Any) -> None:
    class ForgetsInBetween(Forgetful):
        async def list_functions(self) -> dict[str, FunctionRecord]:
            self.count = 1
            return await super().list_functions()

    store = ForgetsInBetween()
    controller = controller_of(store, tmp_path)
    controller._missed = True
    assert await snapshots(controller) == []
    (told,) = await snapshots(controller)
    assert told.rewound
