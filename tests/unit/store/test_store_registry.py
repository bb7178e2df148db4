from __future__ import annotations

import asyncio
import contextlib

import pytest

from stoker.nouns.errors import Conflict, FunctionNotFound, RecordUnreadable
from stoker.nouns.record import FunctionRecord, FunctionState, Revision
from stoker.store import Store


def record(name: str, **fields: object) -> FunctionRecord:
    return FunctionRecord.model_validate({"name": name, **fields})


async def test_a_record_comes_back_as_it_was_written(store: Store) -> None:
    written = record(
        "echo",
        state=FunctionState.READY,
        serving=Revision(number=3, document={"metadata": {"name": "echo"}, "x-unknown": [1, "é"]}),
        last_revision=3,
    )
    await store.put_function(written)
    assert await store.get_function("echo") == written
    assert await store.list_functions() == {"echo": written}
    assert await store.get_function("other") is None


async def test_of_two_creators_of_one_name_exactly_one_meets_a_conflict(
    redis: object, store: Store
) -> None:
    other = await Store.connect(store._link.url, home_id="home-1")
    outcomes = await asyncio.gather(
        *(
            (store if n % 2 else other).create_function(record("echo", message=str(n)))
            for n in range(10)
        ),
        return_exceptions=True,
    )
    await other.close()
    winners = [n for n, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert all(isinstance(o, Conflict) for n, o in enumerate(outcomes) if n not in winners)
    kept = await store.get_function("echo")
    assert kept is not None
    assert kept.message == str(winners[0])


async def test_concurrent_updates_are_all_kept(store: Store) -> None:
    await store.create_function(record("echo"))
    await asyncio.gather(
        *(
            store.update_function(
                "echo", lambda r: r.model_copy(update={"last_revision": r.last_revision + 1})
            )
            for _ in range(16)
        )
    )
    kept = await store.get_function("echo")
    assert kept is not None
    assert kept.last_revision == 16


async def test_updating_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(FunctionNotFound, match="ghost"):
        await store.update_function("ghost", lambda r: r)


async def test_a_deleted_function_is_not_brought_back_by_an_update_that_was_under_way(
    store: Store,
) -> None:
    await store.create_function(record("echo"))
    deleted = []

    def change(read: FunctionRecord) -> FunctionRecord:
        if not deleted:
            deleted.append(asyncio.ensure_future(store.delete_function("echo")))
        return read.model_copy(update={"message": "late"})

    # The deletion runs while the update waits for Redis or before; never is the late write kept.
    with contextlib.suppress(FunctionNotFound):
        await store.update_function("echo", change)
    assert await deleted[0]
    assert await store.get_function("echo") is None


async def test_deleting_says_whether_there_was_one(store: Store) -> None:
    await store.create_function(record("echo"))
    assert await store.delete_function("echo")
    assert not await store.delete_function("echo")


async def test_one_unreadable_record_hides_itself_only(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await store.create_function(record("good"))
    await store._link.call("HSET", "stoker:functions", "bad", b'{"name": 7')
    assert set(await store.list_functions()) == {"good"}
    assert "'bad'" in caplog.text
    with pytest.raises(RecordUnreadable, match="'bad'"):
        await store.get_function("bad")
    with pytest.raises(RecordUnreadable, match="'bad'"):
        await store.update_function("bad", lambda seen: seen)


async def test_an_unreadable_record_is_told_from_a_deleted_one(store: Store) -> None:
    assert store.unreadable_functions() == frozenset()
    await store._link.call("HSET", "stoker:functions", "bad", b'{"name": 7')
    await store.list_functions()
    assert store.unreadable_functions() == {"bad"}
    await store.put_function(record("bad"))
    await store.list_functions()
    assert store.unreadable_functions() == frozenset()


async def test_projects_are_plain_documents(store: Store) -> None:
    await store.put_project("p", {"spec": {"x": [1, None]}})
    assert await store.get_project("p") == {"spec": {"x": [1, None]}}
    assert await store.list_projects() == {"p": {"spec": {"x": [1, None]}}}
    assert await store.delete_project("p")
    assert not await store.delete_project("p")
    assert await store.get_project("p") is None
