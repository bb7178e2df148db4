"""Ledger, cron, logs, memory, outbox."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from stoker.controller.cron import Crontab, next_time, unusable
from stoker.controller.happenings import FunctionSeen, Happening
from stoker.controller.headline import headline
from stoker.controller.launching import new_replica_id
from stoker.controller.ledger import Ledger
from stoker.controller.log_files import KEPT_BYTES, KEPT_FILES, prune_logs
from stoker.controller.memory import over_limit
from stoker.controller.outbox import Outbox
from stoker.decide.fit import bytes_per_gpu
from stoker.nouns.errors import (
    Conflict,
    FunctionNotFound,
    RecordUnreadable,
    StoreUnavailable,
)
from stoker.nouns.function import FunctionConfig, Trigger
from stoker.nouns.record import FunctionRecord, ModelBytes, ReplicaRecord, Revision
from stoker.nouns.rollout import RolloutEvent, Step

MIB = 1024**2

# The ledger of devices


def gpu_revision(gpus: int, workers: int, memory: str | None, **facts: Any) -> Revision:
    env = [{"name": "STOKER_GPU_MEMORY", "value": memory}] if memory else []
    spec = {
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
        "triggers": {"http": {"kind": "http", "numWorkers": workers}},
        "env": env,
    }
    return Revision(number=1, document={"metadata": {"name": "fn"}, "spec": spec}, **facts)


@pytest.mark.parametrize(
    ("per_worker", "workers", "gpus", "each"),
    [(10, 1, 1, 10), (10, 4, 2, 20), (10, 3, 2, 20), (10, 1, 2, 5), (10, 2, 3, 10)],
)
def test_each_card_carries_the_most_that_its_workers_need(
    per_worker: int, workers: int, gpus: int, each: int
) -> None:
    assert bytes_per_gpu(per_worker, workers, gpus) == each


def test_the_ledger_never_promises_more_than_there_is() -> None:
    ledger = Ledger({"a": 100 * MIB})
    config = gpu_revision(1, 2, "20MiB")
    granted = 0
    while (fit := ledger.fit(config)) is not None:
        granted += 1
        ledger.take(f"r{granted}", *fit)
    assert granted == 2
    assert ledger.free() == {"a": 20 * MIB}
    ledger.give_back("r1")
    assert ledger.free() == {"a": 60 * MIB}


def test_a_replica_of_unknown_size_takes_only_an_empty_card_and_all_of_it() -> None:
    ledger = Ledger({"a": 100, "b": 200})
    ledger.take("small", ("a",), 1)
    assert ledger.fit(gpu_revision(1, 1, None)) == (("b",), 200)
    assert ledger.fit(gpu_revision(2, 1, None)) is None
    assert ledger.fit(gpu_revision(2, 1, None), without=frozenset({"small"})) is not None


GIB = 1 << 30
MODEL = ModelBytes(key="k", weights=4 * GIB)


@pytest.mark.parametrize(
    ("device", "memory", "model", "workers", "gib"),
    [
        ("SIM-0", None, MODEL, 1, 5),
        ("SIM-0", None, MODEL, 2, 10),
        ("GPU-0", None, MODEL, 2, 11),
        ("SIM-0", "3GiB", MODEL, 2, 6),
        ("SIM-0", None, MODEL.model_copy(update={"measured": 10 * GIB}), 1, 11),
        ("SIM-0", None, MODEL.model_copy(update={"cache": 2 * GIB}), 1, 7),
        # Measured before a long text came, it has still to have room for one.
        ("SIM-0", None, MODEL.model_copy(update={"cache": 2 * GIB, "measured": 5 * GIB}), 1, 6),
        ("SIM-0", None, None, 1, None),
    ],
)
def test_bytes_are_declared_or_measured_or_estimated_from_the_model_or_the_whole_card(
    device: str, memory: str | None, model: ModelBytes | None, workers: int, gib: int | None
) -> None:
    ledger = Ledger({device: 16 * GIB})
    each = ledger.each(gpu_revision(1, workers, memory, model=model))
    assert each == (None if gib is None else gib * GIB)


def test_two_models_of_known_bytes_share_a_card() -> None:
    ledger = Ledger({"SIM-0": 16 * GIB})
    for number in range(3):
        fit = ledger.fit(gpu_revision(1, 1, None, model=MODEL))
        assert fit == (("SIM-0",), 5 * GIB)
        ledger.take(f"r{number}", *fit)
    assert ledger.fit(gpu_revision(1, 1, None, model=MODEL)) is None


@pytest.mark.parametrize(
    ("gpus", "workers", "memory", "model", "said"),
    [
        (
            1,
            4,
            None,
            MODEL,
            r"4 workers on a GPU x \(weights 4.0 GiB \+ activations 1.0 GiB\) = 20",
        ),
        (
            1,
            4,
            None,
            MODEL.model_copy(update={"cache": GIB}),
            r"4 workers on a GPU x \(weights 4.0 GiB \+ key-value cache 1.0 GiB \+ activations 1",
        ),
        (1, 2, "9GiB", None, r"18.0 GiB on each \(2 worker\(s\) of 9GiB.*has SIM-0 16.0 GiB"),
        (2, 1, None, None, r"needs 2 GPU\(s\); this home has SIM-0 16.0 GiB"),
    ],
)
def test_a_function_that_can_never_fit_is_told_the_arithmetic(
    gpus: int, workers: int, memory: str | None, model: ModelBytes | None, said: str
) -> None:
    ledger = Ledger({"SIM-0": 16 * GIB})
    revision = gpu_revision(gpus, workers, memory, model=model)
    assert ledger.fit(revision) is None
    assert re.search(said, ledger.arithmetic(revision))


# Cron


def cron_config(**attributes: Any) -> FunctionConfig:
    spec = {"triggers": {"beat": {"kind": "cron", "attributes": attributes}}}
    return FunctionConfig.parse({"metadata": {"name": "fn"}, "spec": spec})


def test_an_interval_fires_once_each_and_never_at_the_start() -> None:
    crontab, config = Crontab(), cron_config(interval="10s")
    fired = [len(crontab.due([config], 1000.0 + second)) for second in range(31)]
    assert sum(fired) == 3
    assert fired[0] == 0


def test_a_clock_that_is_set_back_does_not_silence_a_trigger() -> None:
    """It would not have fired before the clock was where it had been."""
    crontab, config = Crontab(), cron_config(interval="10s")
    crontab.due([config], 100_000.0)
    fired = [len(crontab.due([config], 90_000.0 + second)) for second in range(31)]
    assert sum(fired) == 3


def test_a_clock_that_is_disciplined_fires_nothing_twice() -> None:
    crontab, config = Crontab(), cron_config(schedule="*/5 * * * *")
    crontab.due([config], 299.0)
    assert len(crontab.due([config], 300.1)) == 1
    assert crontab.due([config], 299.9) == []
    assert crontab.due([config], 300.2) == []


def test_a_schedule_fires_at_its_minute() -> None:
    crontab, config = Crontab(), cron_config(schedule="*/5 * * * *")
    assert crontab.due([config], 299.0) == []
    assert len(crontab.due([config], 300.0)) == 1
    assert crontab.due([config], 300.5) == []


def test_nuclios_six_fields_begin_with_seconds() -> None:
    trigger = Trigger(kind="cron", attributes={"schedule": "30 * * * * *"})
    assert next_time(trigger, 0.0) == 30.0


def test_a_changed_schedule_does_not_fire_for_the_old_one() -> None:
    crontab = Crontab()
    crontab.due([cron_config(interval="10s")], 0.0)
    assert crontab.due([cron_config(interval="60s")], 11.0) == []


def test_a_firing_carries_the_event_and_its_target() -> None:
    event = {"body": {"a": 1}, "headers": {"X-Mine": "y"}}
    crontab, config = Crontab(), cron_config(interval="1s", event=event)
    crontab.due([config], 0.0)
    (firing,) = crontab.due([config], 1.0)
    assert firing.body == b'{"a": 1}'
    assert firing.headers["X-Nuclio-Target"] == "fn"
    assert firing.headers["X-Mine"] == "y"


@pytest.mark.parametrize("attributes", [{}, {"schedule": "whenever"}, {"interval": "soon"}])
def test_a_cron_trigger_that_never_fires_is_said_to(attributes: dict[str, Any]) -> None:
    assert "it never fires" in unusable(cron_config(**attributes))[0]


def test_a_disabled_function_fires_nothing() -> None:
    config = cron_config(interval="1s")
    config.spec.disable = True
    crontab = Crontab()
    crontab.due([config], 0.0)
    assert crontab.due([config], 10.0) == []


# Logs and memory


def test_the_oldest_logs_go_but_never_those_of_live_workers(tmp_path: Path) -> None:
    for number in range(KEPT_FILES + 5):
        path = tmp_path / f"r{number}.0.log"
        path.write_text("x")
        os.utime(path, (number, number))
    removed = prune_logs(tmp_path, frozenset({"r0.0.log"}))
    assert sorted(path.name for path in removed) == [f"r{n}.0.log" for n in (1, 2, 3, 4)]


def test_logs_past_their_size_go(tmp_path: Path) -> None:
    for number in (1, 2):
        path = tmp_path / f"r{number}.0.log"
        path.touch()
        os.truncate(path, KEPT_BYTES - 1)
        os.utime(path, (number, number))
    assert [path.name for path in prune_logs(tmp_path, frozenset())] == ["r1.0.log"]


def test_a_log_that_its_worker_moves_aside_meanwhile_stops_no_pruning(tmp_path: Path) -> None:
    (tmp_path / "gone.0.log").symlink_to(tmp_path / "nowhere")
    for name in ("r1.0.log", "r1.0.log.1"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, KEPT_BYTES - 1)
    os.utime(tmp_path / "r1.0.log.1", (1, 1))
    removed = prune_logs(tmp_path, frozenset({"r1.0.log"}))
    assert [path.name for path in removed] == ["r1.0.log.1"]


def test_the_largest_worker_of_a_replica_over_its_limit_is_named(stage: Any) -> None:
    replica = stage.serve(
        resources={"limits": {"memory": "100"}},
        triggers={"http": {"kind": "http", "numWorkers": 2}},
    )
    small, large = (slot.pid for slot in replica.slots)
    held = {small: 30, large: 80}
    (event,) = over_limit(stage.world, held.__getitem__, held.__getitem__)
    assert event.index == 1


def test_shared_pages_are_not_counted_twice(stage: Any) -> None:
    stage.serve(resources={"limits": {"memory": "100"}})
    assert over_limit(stage.world, lambda _: 300, lambda _: 90) == []


def test_a_headline_says_where_code_cannot_be_read() -> None:
    text = (
        "worker r1.0: Traceback (most recent call last):\n"
        '  File "/usr/lib/importlib/__init__.py", line 126, in import_module\n'
        '  File "/home/x/code/main.py", line 3\n    def handler(context, event)\n'
        "                               ^\nSyntaxError: expected ':'\n"
    )
    assert headline(text) == "worker r1.0: SyntaxError: expected ':' (main.py, line 3)"


@pytest.mark.parametrize(
    ("function", "project", "part"),
    [
        ("news-text-classify", "news", "text-cla"),
        ("embedder", "default", "embedder"),
        ("news", "news", "news"),
    ],
)
def test_a_replicas_id_tells_functions_of_one_project_apart(
    function: str, project: str, part: str
) -> None:
    assert new_replica_id(function, project).rpartition("-")[0] == part


def test_a_headline_is_the_last_line_of_a_traceback() -> None:
    text = "worker r1.0: Traceback (most recent call last):\n  File x\nValueError: no"
    assert headline(text) == "worker r1.0: ValueError: no"


# The outbox


class FakeStore:
    def __init__(self) -> None:
        self.away = False
        self.replicas: dict[str, ReplicaRecord] = {}
        self.functions: dict[str, FunctionRecord] = {}
        self.rollouts: list[RolloutEvent] = []
        self.writes = 0

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.writes += 1

    async def put_replica(self, record: ReplicaRecord) -> None:
        self._reach()
        self.replicas[record.id] = record

    async def remove_replica(self, replica: str, /) -> None:
        self._reach()
        self.replicas.pop(replica, None)

    async def update_function(self, name: str, change: Any) -> FunctionRecord:
        self._reach()
        if name not in self.functions:
            raise FunctionNotFound(name)
        self.functions[name] = change(self.functions[name])
        return self.functions[name]

    async def create_function(self, record: FunctionRecord) -> None:
        self._reach()
        self.functions[record.name] = record

    async def add_rollout_event(self, function: str, event: RolloutEvent) -> None:
        self._reach()
        assert self.functions[function].message == "", "the step was done before it was told"
        self.rollouts.append(event)


def message(text: str) -> Any:
    return lambda record: record.model_copy(update={"message": record.message + text})


async def test_writes_wait_while_the_store_is_away_and_none_is_lost() -> None:
    store, seen = FakeStore(), list[Happening]()
    store.functions["fn"] = FunctionRecord(name="fn")
    outbox = Outbox(store, seen.append)
    store.away = True
    outbox.put_replica(ReplicaRecord(id="r", function="fn", revision=1))
    outbox.put_replica(ReplicaRecord(id="r", function="fn", revision=1, draining=True))
    outbox.change_function("fn", message("a"))
    outbox.change_function("fn", message("b"))
    assert await outbox.flush() is False
    store.away = False
    assert await outbox.flush() is True
    assert store.replicas["r"].draining
    assert store.functions["fn"].message == "ab"
    assert store.writes == 2
    assert seen == [FunctionSeen("fn", store.functions["fn"])]
    assert outbox.is_empty


@pytest.mark.parametrize(
    "error",
    [RecordUnreadable("broken"), Conflict("too many writers"), ValueError("no way to write this")],
)
async def test_a_change_that_cannot_be_written_holds_up_no_other_function(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeStore):
        async def update_function(self, name: str, change: Any) -> FunctionRecord:
            if name == "bad":
                raise error
            return await super().update_function(name, change)

    store, seen = Broken(), list[Happening]()
    store.functions["fn"] = FunctionRecord(name="fn")
    outbox = Outbox(store, seen.append)
    outbox.change_function("bad", message("a"))
    outbox.change_function("fn", message("b"))
    assert await outbox.flush() is True
    assert store.functions["fn"].message == "b"
    assert seen == [FunctionSeen("fn", store.functions["fn"])]  # "bad" is not told to be deleted
    assert outbox.is_empty
    assert str(error) in caplog.text


async def test_a_step_of_a_rollout_is_told_before_it_is_done_and_not_lost() -> None:
    store = FakeStore()
    store.functions["fn"] = FunctionRecord(name="fn")
    outbox = Outbox(store, list[Happening]().append)
    event = RolloutEvent(step=Step.PROMOTED, revision=2, stable=1, at=1.0, who="ann", why="well")
    store.away = True
    outbox.change_function("fn", message("promoted"))
    outbox.note_rollout("fn", event)
    assert await outbox.flush() is False
    assert not outbox.is_empty
    store.away = False
    assert await outbox.flush() is True
    assert store.rollouts == [event]
    assert store.functions["fn"].message == "promoted"
    assert outbox.is_empty


async def test_a_record_that_changes_while_it_is_written_is_written_again() -> None:
    outbox: Outbox
    newer = ReplicaRecord(id="r", function="fn", revision=1, draining=True)

    class Slow(FakeStore):
        async def put_replica(self, record: ReplicaRecord) -> None:
            await super().put_replica(record)
            if not record.draining:
                outbox.put_replica(newer)

    store = Slow()
    outbox = Outbox(store, list[Happening]().append)
    outbox.put_replica(ReplicaRecord(id="r", function="fn", revision=1))
    assert await outbox.flush() is True
    assert store.replicas["r"].draining


async def test_a_change_of_what_is_not_there_is_dropped_and_is_no_word_of_its_deletion() -> None:
    """A Redis that came back empty has not got it either: the function was ended for that."""
    seen = list[Happening]()
    outbox = Outbox(FakeStore(), seen.append)
    outbox.change_function("fn", message("a"))
    assert await outbox.flush() is True
    assert outbox.is_empty
    assert seen == []
