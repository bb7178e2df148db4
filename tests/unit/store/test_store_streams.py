"""Streams and their consumer groups, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from real_redis import RealRedis
from stoker.nouns.errors import BadRequest, Conflict, NotFound, QueueFull, StoreUnavailable
from stoker.nouns.stream import NewRecord, Record, Taken, stream_name
from stoker.store import Store, keys, stream_groups
from stoker.store.stream_groups import NoSuchGroup

NAME = "projects/orders"
OWNER = "g0"


@pytest.fixture
async def orders(store: Store) -> Store:
    """A stream of two shards with the group ``a``, whose reader is `OWNER`."""
    await store.create_stream(NAME, 2, 24)
    await store.subscribe(NAME, 2, "a", from_start=True)
    for shard in (0, 1):
        assert await store.hold_lease(keys.stream_lease(NAME, shard, "a"), OWNER, 10)
    return store


async def put(store: Store, *texts: str, shard: int = 0) -> int:
    return await store.put_records(NAME, shard, [NewRecord(text.encode()) for text in texts])


async def take(store: Store, limit: int = 100, shard: int = 0, group: str = "a") -> list[Record]:
    taken = await store.take_records(NAME, shard, group, owner=OWNER, limit=limit)
    assert isinstance(taken, Taken)
    return taken.records


def texts(records: list[Record]) -> list[str]:
    return [record.data.decode() for record in records]


async def test_sequence_numbers_begin_at_1_and_have_no_gaps(orders: Store) -> None:
    assert await put(orders, "x", "y") == 1
    assert await put(orders, "z") == 3
    assert await put(orders, "other shard", shard=1) == 1
    found = await orders.read_records(NAME, 0, first=1, limit=10)
    assert [(r.sequence, r.data) for r in found] == [(1, b"x"), (2, b"y"), (3, b"z")]
    assert [r.sequence for r in await orders.read_records(NAME, 0, first=3, limit=10)] == [3]
    assert await orders.read_records(NAME, 0, first=4, limit=10) == []


async def test_a_record_keeps_its_key_its_info_and_its_time(orders: Store) -> None:
    await orders.put_records(NAME, 0, [NewRecord(b"\x00\xff", key="k:1", info=b"\x01")])
    (record,) = await take(orders)
    assert (record.data, record.key, record.info, record.tries) == (b"\x00\xff", "k:1", b"\x01", 1)
    assert await orders.seek_time(NAME, 0, record.arrived_at) == 1
    assert await orders.seek_time(NAME, 0, record.arrived_at + 1) == 2
    assert await orders.seek_time(NAME, 0, 0) == 1


async def test_what_is_not_there_is_refused_by_name(orders: Store) -> None:
    with pytest.raises(Conflict):
        await orders.create_stream(NAME, 1, 24)
    with pytest.raises(NotFound):
        await orders.put_records("projects/none", 0, [NewRecord(b"x")])
    with pytest.raises(BadRequest, match="shards 0 to 1"):
        await put(orders, "x", shard=2)
    with pytest.raises(NotFound):
        await orders.grow_stream("projects/none", 3)
    with pytest.raises(NotFound):
        await orders.delete_stream("projects/none")


async def test_a_group_gets_each_record_once_and_another_group_gets_them_too(
    orders: Store,
) -> None:
    await put(orders, "1", "2", "3")
    await orders.subscribe(NAME, 2, "b", from_start=True)
    await orders.hold_lease(keys.stream_lease(NAME, 0, "b"), OWNER, 10)
    assert texts(await take(orders, limit=2)) == ["1", "2"]
    assert texts(await take(orders)) == ["3"]
    assert await take(orders) == []
    assert texts(await take(orders, group="b")) == ["1", "2", "3"]


async def test_a_new_group_may_begin_after_the_last_record(orders: Store) -> None:
    await put(orders, "before")
    await orders.subscribe(NAME, 2, "late", from_start=False)
    await put(orders, "after")
    await orders.hold_lease(keys.stream_lease(NAME, 0, "late"), OWNER, 10)
    assert texts(await take(orders, group="late")) == ["after"]
    # Asked again it stands: nothing is read twice, nothing is passed over.
    await orders.subscribe(NAME, 2, "late", from_start=False)
    assert await take(orders, group="late") == []


async def test_a_shard_that_is_added_later_is_read_from_its_first_record(store: Store) -> None:
    await store.create_stream(NAME, 1, 24)
    await store.subscribe(NAME, 1, "a", from_start=False)
    assert await store.grow_stream(NAME, 2) == 2
    assert await store.grow_stream(NAME, 1) == 2
    await put(store, "early", shard=1)
    await store.subscribe(NAME, 2, "a", from_start=False)
    await store.hold_lease(keys.stream_lease(NAME, 1, "a"), OWNER, 10)
    assert texts(await take(store, shard=1)) == ["early"]


async def test_only_the_holder_of_the_lease_is_given_records(orders: Store) -> None:
    await put(orders, "x")
    assert await orders.take_records(NAME, 0, "a", owner="g1", limit=1) is None
    assert texts(await take(orders)) == ["x"]
    held = await orders.hold_leases(
        {keys.stream_lease(NAME, 0, "a"): "g1", keys.stream_lease(NAME, 0, "b"): "g1"}, 10
    )
    assert list(held.values()) == [False, True]


async def test_what_is_not_acknowledged_is_there_for_the_next_reader(orders: Store) -> None:
    await put(orders, "1", "2", "3")
    await take(orders)
    await orders.ack_records(NAME, 0, "a", [1, 3])
    left, more = await orders.pending_records(NAME, 0, "a")
    assert texts(left) == ["2"]
    assert more is None
    await orders.note_tries(NAME, 0, "a", {2: 3})
    ((record,), _) = await orders.pending_records(NAME, 0, "a")
    assert record.tries == 3
    assert await take(orders) == []


async def test_many_pending_records_are_read_in_steps(orders: Store) -> None:
    await put(orders, *map(str, range(300)))
    await take(orders, limit=1000)
    seen: list[str] = []
    first: int | None = 0
    while first is not None:
        records, first = await orders.pending_records(NAME, 0, "a", first=first)
        seen += texts(records)
    assert seen == [str(number) for number in range(300)]


async def test_large_records_come_in_steps_that_fit_a_call(
    orders: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_groups, "STEP_BYTES", 100)
    sent = [f"{number:060}" for number in range(21)]
    await put(orders, *sent)
    taken: list[str] = []
    while records := await take(orders):
        assert len(records) <= 4
        taken += texts(records)
    assert taken == sent
    held: list[str] = []
    first: int | None = 0
    while first is not None:
        records, first = await orders.pending_records(NAME, 0, "a", first=first)
        assert len(records) <= 2
        held += texts(records)
    assert held == sent


async def test_a_step_gives_a_single_record_of_any_size(
    orders: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_groups, "STEP_BYTES", 10)
    await put(orders, "x" * 60, "y" * 60)
    assert len(await take(orders, limit=1)) == 1
    records, more = await orders.pending_records(NAME, 0, "a")
    assert texts(records) == ["x" * 60]
    assert more is None


async def test_a_group_that_is_not_there_is_told_apart_from_an_empty_shard(orders: Store) -> None:
    await orders.hold_lease(keys.stream_lease(NAME, 0, "x"), OWNER, 10)
    with pytest.raises(NoSuchGroup):
        await take(orders, group="x")
    with pytest.raises(NoSuchGroup):
        await orders.pending_records(NAME, 0, "x")
    with pytest.raises(NoSuchGroup):
        await orders.rewind(NAME, 0, "x", 1)


async def test_a_buried_record_lies_in_the_dead_letters_with_its_reason(orders: Store) -> None:
    await put(orders, "bad", "good")
    bad, good = await take(orders)
    buried = await orders.bury_record(NAME, "a", bad, reason="it raised", function="f")
    assert buried
    assert not await orders.bury_record(NAME, "a", bad, reason="again", function="f")
    (letter,) = await orders.list_dead(NAME, "a")
    assert (letter.record.data, letter.record.sequence, letter.reason) == (b"bad", 1, "it raised")
    assert letter.function == "f"
    assert letter.died_at > 0
    assert await orders.count_dead(NAME, "a") == 1
    await orders.ack_records(NAME, 0, "a", [good.sequence])
    assert (await orders.pending_records(NAME, 0, "a"))[0] == []


async def test_a_revived_dead_letter_comes_back_to_its_group_alone(orders: Store) -> None:
    await orders.subscribe(NAME, 2, "b", from_start=True)
    await orders.hold_lease(keys.stream_lease(NAME, 0, "b"), OWNER, 10)
    await put(orders, "bad")
    (bad,) = await take(orders)
    await orders.bury_record(NAME, "a", bad, reason="it raised", function="f")
    (letter,) = await orders.list_dead(NAME, "a")
    assert await orders.revive(NAME, "a", letter) == 2
    assert await orders.revive(NAME, "a", letter) == 0
    (again,) = await take(orders)
    assert (again.data, again.sequence, again.tries) == (b"bad", 2, 1)
    assert [r.sequence for r in await take(orders, group="b")] == [1]
    assert (await orders.pending_records(NAME, 0, "b"))[0][0].sequence == 1
    assert await orders.list_dead(NAME, "a") == []
    # Whoever reads without a group does not see it twice.
    assert [r.sequence for r in await orders.read_records(NAME, 0, first=1, limit=9)] == [1]


async def bury(store: Store, *texts: str, shard: int = 0) -> None:
    await put(store, *texts, shard=shard)
    for record in await take(store, shard=shard):
        assert await store.bury_record(NAME, "a", record, reason="it raised", function="f")


async def dead_texts(store: Store) -> list[str]:
    return texts([letter.record for letter in await store.list_dead(NAME, "a")])


async def test_dead_letters_of_all_shards_are_bounded_in_number_and_in_bytes(
    orders: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "DEAD_LETTERS", 3)
    await bury(orders, "1", "2", "3", "4")
    assert await dead_texts(orders) == ["2", "3", "4"]
    monkeypatch.setattr(keys, "DEAD_BYTES", 10)
    await bury(orders, "five", shard=1)
    await bury(orders, "sixsix")
    assert await dead_texts(orders) == ["five", "sixsix"]
    # One that is larger than the bound by itself is kept alone.
    await bury(orders, "s" * 20)
    assert await dead_texts(orders) == ["s" * 20]
    await bury(orders, "eight")
    assert await dead_texts(orders) == ["eight"]


async def test_a_dead_letter_that_was_revived_leaves_its_room_to_others(
    orders: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "DEAD_BYTES", 10)
    await bury(orders, "12345", "678")
    (letter, _) = await orders.list_dead(NAME, "a")
    again = await orders.revive(NAME, "a", letter)
    assert texts(await take(orders)) == ["12345"]
    await orders.ack_records(NAME, 0, "a", [again])
    await bury(orders, "abcdef")
    assert await dead_texts(orders) == ["678", "abcdef"]


async def test_nothing_is_left_of_a_forgotten_group(orders: Store) -> None:
    await bury(orders, "x", "y", shard=1)
    assert await orders.forget_group(NAME, 2, "a") == 2
    assert await orders._link.call("KEYS", "stoker:stream-dead*") == []
    for shard in (0, 1):
        assert (await orders.read_shard(NAME, shard)).groups == {}
        counters = await orders._link.call("HKEYS", keys.stream_shard(NAME, shard))
        assert not [name for name in counters if name.startswith(b"dead")]
    with pytest.raises(NoSuchGroup):
        await orders.forget_group(NAME, 2, "a")


async def test_a_record_is_moved_to_the_end_with_its_tries(orders: Store) -> None:
    await orders.subscribe(NAME, 2, "b", from_start=True)
    await orders.hold_lease(keys.stream_lease(NAME, 0, "b"), OWNER, 10)
    await put(orders, "bad", "good")
    bad, _ = await take(orders)
    assert await orders.requeue_record(NAME, "a", replace(bad, tries=2)) == 3
    assert await orders.requeue_record(NAME, "a", replace(bad, tries=2)) == 0
    (again,) = await take(orders)
    assert (again.data, again.sequence, again.tries, again.original) == (b"bad", 3, 2, 1)
    # Whoever takes over finds the number of the try too; the next move keeps where it began.
    held, _ = await orders.pending_records(NAME, 0, "a", first=3)
    assert [(record.tries, record.original) for record in held] == [(2, 1)]
    assert await orders.requeue_record(NAME, "a", replace(again, tries=3)) == 4
    (again,) = await take(orders)
    await orders.bury_record(NAME, "a", again, reason="r", function="f")
    (letter,) = await orders.list_dead(NAME, "a")
    assert (letter.record.sequence, letter.record.tries) == (1, 3)
    assert [record.sequence for record in await take(orders, group="b")] == [1, 2]


async def test_one_record_is_repeated_and_a_whole_shard_is_read_again(orders: Store) -> None:
    await put(orders, "1", "2", "3")
    await take(orders)
    await orders.ack_records(NAME, 0, "a", [1, 2, 3])
    assert await orders.repeat(NAME, 0, "a", 2) == 4
    assert await orders.repeat(NAME, 0, "a", 99) == 0
    assert texts(await take(orders)) == ["2"]
    await orders.rewind(NAME, 0, "a", 2)
    assert texts(await take(orders)) == ["2", "3"], "the copy comes by its original"
    await orders.rewind(NAME, 0, "a", 3)
    assert texts(await take(orders)) == ["3", "2"], "the original does not come"


async def test_a_record_that_fails_again_in_a_replay_is_one_dead_letter_more(orders: Store) -> None:
    """Each retry is a record of its own: with them the first replay made it four."""

    async def consume() -> None:
        while records := await take(orders, limit=1):
            (record,) = records
            if record.tries < 3:
                failed = replace(record, tries=record.tries + 1)
                assert await orders.requeue_record(NAME, "a", failed)
            else:
                await orders.bury_record(NAME, "a", record, reason="500", function="fn")

    await put(orders, "poison")
    for dead in (1, 2, 3):
        await consume()
        assert await orders.count_dead(NAME, "a") == dead
        await orders.rewind(NAME, 0, "a", 1)
    letters = await orders.list_dead(NAME, "a")
    assert {letter.record.sequence for letter in letters} == {1}


async def test_a_copy_is_read_in_a_replay_when_retention_has_taken_its_original(
    orders: Store, redis: RealRedis
) -> None:
    await put(orders, "1", "2")
    await take(orders)
    await orders.ack_records(NAME, 0, "a", [1, 2])
    assert await orders.repeat(NAME, 0, "a", 1) == 3
    await orders._link.call("XTRIM", keys.stream(NAME, 0), "MINID", "2-0")
    await orders.rewind(NAME, 0, "a", 1)
    assert texts(await take(orders)) == ["2", "1"]


async def test_the_bell_rings_once_for_a_consumer_that_found_nothing(orders: Store) -> None:
    bells = orders.bells()
    assert await anext(bells) is None
    await put(orders, "nobody waits")
    await take(orders)
    assert await take(orders) == []
    await put(orders, "rings")
    await put(orders, "does not")
    await put(orders, "other", shard=1)
    assert await take(orders, shard=1)
    assert await take(orders, shard=1) == []
    await orders.rewind(NAME, 0, "a", 1)
    rung = [await anext(bells), await anext(bells)]
    assert rung == [(NAME, 0), (NAME, 0)]
    await put(orders, "rings too", shard=1)
    assert await anext(bells) == (NAME, 1)
    await _close(bells)


async def test_bells_say_so_when_their_connection_is_new(orders: Store, redis: RealRedis) -> None:
    bells = orders.bells()
    assert await anext(bells) is None
    redis.kill()
    again = asyncio.ensure_future(anext(bells))
    redis.start()
    async with asyncio.timeout(20):
        assert await again is None
    await _close(bells)


async def test_the_state_of_a_shard(orders: Store) -> None:
    await put(orders, "1", "22", "333")
    await take(orders, limit=2)
    await orders.ack_records(NAME, 0, "a", [1])
    state = await orders.read_shard(NAME, 0)
    assert (state.first, state.last, state.records, state.bytes) == (1, 3, 3, 6)
    group = state.groups["a"]
    assert (group.delivered, group.pending, group.lag, group.consumer) == (2, 1, 1, OWNER)
    empty = await orders.read_shard(NAME, 1)
    assert (empty.first, empty.last, empty.records) == (0, 0, 0)


async def test_a_full_shard_drops_what_is_done_and_refuses_what_would_be_lost(
    orders: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "STREAM_RECORDS", 4)
    await put(orders, "1", "2", "3", "4")
    with pytest.raises(QueueFull):
        await put(orders, "5")
    await take(orders, limit=3)
    await orders.ack_records(NAME, 0, "a", [1])
    assert await put(orders, "5") == 5
    with pytest.raises(QueueFull):
        await put(orders, "6")
    assert [r.sequence for r in await orders.read_records(NAME, 0, first=1, limit=9)] == [
        2,
        3,
        4,
        5,
    ]
    assert (await orders.read_shard(NAME, 0)).bytes == 4
    assert texts(await take(orders)) == ["4", "5"]


async def test_a_shard_without_readers_keeps_the_newest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create_stream(NAME, 1, 24)
    monkeypatch.setattr(keys, "STREAM_BYTES", 10)
    for text in ("aaaa", "bbbb", "cccc"):
        await put(store, text)
    assert texts(await store.read_records(NAME, 0, first=1, limit=9)) == ["bbbb", "cccc"]
    # One that is larger than the bound by itself is kept alone.
    assert await put(store, "d" * 20) == 4
    assert texts(await store.read_records(NAME, 0, first=1, limit=9)) == ["d" * 20]
    assert (await store.read_shard(NAME, 0)).bytes == 20


async def test_records_older_than_the_retention_go_with_the_next_put(store: Store) -> None:
    await store.create_stream(NAME, 1, 0)
    await store.subscribe(NAME, 1, "a", from_start=True)
    await store.hold_lease(keys.stream_lease(NAME, 0, "a"), OWNER, 10)
    await put(store, *map(str, range(100)))
    assert len(await take(store, limit=1000)) == 100
    await put(store, "new")
    assert texts(await store.read_records(NAME, 0, first=1, limit=999)) == ["new"]
    assert (await store.read_shard(NAME, 0)).bytes == 3
    # They are not held for ever either.
    assert (await store.pending_records(NAME, 0, "a"))[0] == []


async def test_nothing_is_left_of_a_deleted_stream(orders: Store) -> None:
    await put(orders, "x")
    (record,) = await take(orders)
    await orders.bury_record(NAME, "a", record, reason="r", function="f")
    await orders.delete_stream(NAME)
    left = await orders._link.call("KEYS", "stoker:stream*")
    assert left == []
    assert await orders.get_stream(NAME) is None
    assert await orders.list_streams() == {}


async def test_a_redis_that_was_killed_comes_back_with_all_of_it(
    orders: Store, redis: RealRedis
) -> None:
    await put(orders, "1", "2")
    await take(orders, limit=1)
    await orders.note_tries(NAME, 0, "a", {1: 2})
    redis.kill()
    with pytest.raises(StoreUnavailable):
        await orders.ping()
    redis.start()
    assert (await orders.get_stream(NAME)) is not None
    ((held,), _) = await orders.pending_records(NAME, 0, "a")
    assert (held.data, held.tries) == (b"1", 2)
    assert await orders.hold_lease(keys.stream_lease(NAME, 0, "a"), OWNER, 10)
    assert texts(await take(orders)) == ["2"]
    assert await put(orders, "3") == 3


@pytest.mark.parametrize(
    ("container", "path"),
    [("", "x"), ("c", ""), ("c", "a//b"), ("c", "../x"), ("c", "a\x00"), ("c", "a" * 600)],
)
def test_names_that_nothing_can_be_kept_under(container: str, path: str) -> None:
    with pytest.raises(BadRequest):
        stream_name(container, path)


async def _close(bells: AsyncIterator[object]) -> None:
    await bells.aclose()  # type: ignore[attr-defined]


async def test_a_full_shard_lets_go_of_the_records_that_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are what fills it: if moving them needed room, nothing would ever move again."""
    monkeypatch.setattr(keys, "STREAM_RECORDS", 10)
    await store.create_stream("p/full", 1, 24)
    await store.subscribe("p/full", 1, "g", from_start=True)
    for _ in range(10):
        await store.put_records("p/full", 0, [NewRecord(b"x")])
    await store.hold_leases({keys.stream_lease("p/full", 0, "g"): "me"}, 10)
    taken = await store.take_records("p/full", 0, "g", owner="me", limit=4)
    moved = [await store.requeue_record("p/full", "g", record) for record in taken.records]
    assert moved == [11, 12, 13, 14]
    with pytest.raises(QueueFull):
        await store.put_records("p/full", 0, [NewRecord(b"y")])
