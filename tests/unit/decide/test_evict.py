"""Whose bytes go, when, and never anything of which somebody is being served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.decide.evict import (
    MIN_RESIDENCY_S,
    Going,
    Resident,
    Room,
    Wait,
    Want,
    make_room,
    patience_s,
)
from stoker.decide.rate import ArrivalRate

GIB = 1 << 30
NOW = 1000.0


def resident(name: str, gib: int = 8, device: str = "a", **facts: Any) -> Resident:
    told = {"reload_s": 4.0, "rate": 0.001, "since": NOW - 60, **facts}
    return Resident(name, name, {device: gib * GIB}, **told)


def want(gib: int = 8, **facts: Any) -> Want:
    return Want("new", 1, gib * GIB, **{"reload_s": 4.0, "rate": 0.001, **facts})


def test_what_fits_evicts_nobody() -> None:
    assert make_room(want(), [resident("old", 4)], {"a": 8 * GIB}, NOW) == Room(("a",))


@pytest.mark.parametrize(
    ("slow", "often", "small", "victim"),
    [
        ({"reload_s": 8.0}, {}, {}, "often"),
        ({}, {"rate": 0.002}, {}, "slow"),
        ({"reload_s": 8.0, "rate": 0.01}, {"rate": 0.002}, {}, "often"),
    ],
)
def test_the_least_reload_seconds_times_rate_per_byte_goes_first(
    slow: dict[str, float], often: dict[str, float], small: dict[str, float], victim: str
) -> None:
    held = [resident("slow", **slow), resident("often", **often)]
    assert make_room(want(), held, {"a": 0}, NOW) == Room(("a",), (victim,))


def test_of_two_that_cost_the_same_the_one_that_gives_more_bytes_goes() -> None:
    held = [resident("small", 4), resident("large", 12)]
    assert make_room(want(4), held, {"a": 0}, NOW) == Room(("a",), ("large",))


def test_of_several_devices_the_one_that_costs_least_is_cleared() -> None:
    dear, cheap = resident("dear", rate=0.01), resident("cheap", device="b")
    assert make_room(want(), [dear, cheap], {"a": 0, "b": 0}, NOW) == Room(("b",), ("cheap",))


def test_several_devices_are_cleared_for_one_that_needs_several() -> None:
    held = [resident("one"), resident("two", device="b"), resident("dear", device="c", rate=0.02)]
    wide = replace(want(), gpus=2)
    made = make_room(wide, held, {"a": 0, "b": 0, "c": 0}, NOW)
    assert isinstance(made, Room)
    assert set(made.devices) == {"a", "b"}
    assert set(made.victims) == {"one", "two"}


@pytest.mark.parametrize("facts", [{"busy": True}, {"pinned": True}, {"since": None}])
def test_one_with_work_or_on_its_way_or_that_is_needed_stays(facts: dict[str, Any]) -> None:
    held = [resident("held", **facts)]
    assert isinstance(make_room(want(waited_s=0.5), held, {"a": 0}, NOW), Wait)


def test_one_that_has_just_become_ready_stays_until_it_was_seen_to_work() -> None:
    held = [resident("young", since=NOW - MIN_RESIDENCY_S / 2)]
    decided = make_room(want(), held, {"a": 0}, NOW)
    assert isinstance(decided, Wait)
    assert decided.until == NOW + MIN_RESIDENCY_S / 2
    assert isinstance(make_room(want(), held, {"a": 0}, decided.until), Room)


def test_a_model_in_demand_serves_on_for_a_while_but_each_wait_has_a_bound() -> None:
    """llama-swap#612: A B A A C must not load A for each of its requests."""
    held = [resident("hot", rate=5.0)]
    waits = make_room(want(waited_s=1.0), held, {"a": 0}, NOW)
    assert isinstance(waits, Wait)
    bound = patience_s(want(), map(Going, held))
    assert waits.until == NOW + bound - 1.0
    assert make_room(want(waited_s=bound), held, {"a": 0}, NOW) == Room(("a",), ("hot",))


def test_a_model_that_is_hardly_asked_for_is_not_waited_for() -> None:
    assert isinstance(make_room(want(), [resident("cold")], {"a": 0}, NOW), Room)


def test_a_busy_one_goes_only_after_the_bound_and_after_its_turn_and_for_a_first_replica() -> None:
    busy = resident("busy", busy=True)
    bound = patience_s(want(), [Going(busy)])
    late = want(waited_s=bound)
    assert make_room(late, [busy], {"a": 0}, NOW) == Room(("a",), ("busy",))
    assert isinstance(make_room(want(waited_s=bound - 0.1), [busy], {"a": 0}, NOW), Wait)
    fresh = replace(busy, since=NOW - 1)
    assert make_room(late, [fresh], {"a": 0}, NOW) == Wait(NOW + 7, "busy is at work")
    assert isinstance(make_room(replace(late, first=False), [busy], {"a": 0}, NOW), Wait)


def able(name: str, gib: int = 8, **facts: Any) -> Resident:
    """One that can sleep, and keeps a GiB then."""
    return resident(name, gib, rest={"a": GIB}, rouse_s=0.5, **facts)


def sleeper(name: str, **facts: Any) -> Resident:
    return resident(name, 1, asleep=True, rouse_s=0.5, **facts)


@pytest.mark.parametrize(
    ("gib", "held", "gone", "asleep"),
    [
        pytest.param(7, [able("one")], (), ("one",), id="sleep is enough"),
        pytest.param(8, [able("one")], ("one",), (), id="sleep is not enough"),
        pytest.param(8, [able("one"), able("two")], (), ("one", "two"), id="two asleep are"),
        pytest.param(
            15, [able("one"), able("two", rate=0.002)], ("one",), ("two",), id="the dearer sleeps"
        ),
        pytest.param(
            7, [able("one"), resident("two")], (), ("one",), id="a copy is less than a load"
        ),
        pytest.param(
            7, [able("one", rate=0.1), resident("two")], ("two",), (), id="nobody asks for two"
        ),
        pytest.param(1, [sleeper("one"), able("two")], ("one",), (), id="a sleeper goes first"),
        pytest.param(
            8, [sleeper("one"), able("two")], ("one",), ("two",), id="a sleeper and a sleep"
        ),
        pytest.param(7, [sleeper("one"), able("two")], (), ("two",), id="no sleeper in vain"),
        pytest.param(8, [sleeper("one", pinned=True), able("two")], ("two",), (), id="pinned"),
        pytest.param(7, [able("one", pinned=True), able("two")], (), ("two",), id="pinned, awake"),
    ],
)
def test_who_can_sleep_sleeps_where_that_is_enough_and_sleepers_are_the_first_to_end(
    gib: int, held: list[Resident], gone: tuple[str, ...], asleep: tuple[str, ...]
) -> None:
    decided = make_room(want(gib), held, {"a": 0}, NOW)
    assert isinstance(decided, Room)
    assert (set(decided.victims), set(decided.sleepers)) == (set(gone), set(asleep))


def test_a_busy_one_is_never_put_to_sleep_and_a_sleeper_has_no_turn() -> None:
    busy = able("busy", busy=True)
    late = want(7, waited_s=1000.0)
    assert make_room(late, [busy], {"a": 0}, NOW) == Room(("a",), ("busy",))
    asked_for = sleeper("asked for", busy=True, since=NOW - 1)
    assert make_room(want(1, waited_s=1000.0), [asked_for], {"a": 0}, NOW) == Room(
        ("a",), ("asked for",)
    )


def test_a_wait_is_bounded_by_a_share_of_what_the_request_may_wait() -> None:
    slow = resident("slow", reload_s=100.0)
    assert patience_s(want(limit_s=120.0), [Going(slow)]) == 30.0


RESIDENTS = st.lists(
    st.builds(
        lambda index, devices, gib, rest, **facts: Resident(
            f"r{index}",
            f"f{index}",
            dict.fromkeys(devices, gib * GIB),
            rest=None if rest is None else dict.fromkeys(devices, rest * GIB // 2),
            **facts,
        ),
        index=st.integers(0, 10**6),
        devices=st.sampled_from([("a",), ("b",), ("a", "b")]),
        gib=st.integers(1, 8),
        reload_s=st.floats(0.1, 20),
        rate=st.floats(0, 10),
        since=st.none() | st.floats(0, NOW),
        busy=st.booleans(),
        pinned=st.booleans(),
        rest=st.none() | st.integers(0, 2),
        rouse_s=st.floats(0, 1),
    ),
    max_size=8,
    unique_by=lambda r: r.id,
)


@given(
    RESIDENTS,
    st.integers(1, 2),
    st.integers(1, 16),
    st.floats(0, 100),
    st.fixed_dictionaries({"a": st.integers(0, 4), "b": st.integers(0, 4)}),
)
def test_whatever_is_decided_fits_takes_no_more_than_it_must_and_nobody_it_may_not(
    residents: list[Resident], gpus: int, gib: int, waited_s: float, free_gib: dict[str, int]
) -> None:
    free = {device: count * GIB for device, count in free_gib.items()}
    asked = Want("new", gpus, gib * GIB, waited_s=waited_s)
    decided = make_room(asked, residents, free, NOW)
    if isinstance(decided, Wait):
        assert decided.until > NOW
        return
    by_id = {one.id: one for one in residents}
    victims = [Going(by_id[name]) for name in decided.victims]
    victims += [Going(by_id[name], sleeps=True) for name in decided.sleepers]

    def fits_without(gone: list[Going]) -> bool:
        return all(
            free[device] + sum(one.frees(device) for one in gone) >= asked.each
            for device in decided.devices
        )

    assert len(set(decided.devices)) == gpus
    assert fits_without(victims)
    assert not any(fits_without([v for v in victims if v is not one]) for one in victims)
    for one in victims:
        others = [v for v in victims if v is not one]
        softer = Going(one.resident, sleeps=True)
        if not one.sleeps and one.resident.rest is not None and not one.resident.busy:
            assert not fits_without([*others, softer]), "asleep it would have been enough"
        assert not one.sleeps or (one.resident.rest is not None and not one.resident.busy)
    assert not any(one.resident.pinned or one.resident.since is None for one in victims)
    if any(one.resident.busy for one in victims):
        assert waited_s >= patience_s(asked, victims)


def test_a_rate_forgets_and_silence_is_news() -> None:
    steady = ArrivalRate(since=0.0)
    for second in range(100):
        steady = steady.after(1, float(second))
    assert steady.per_second(99.5) == pytest.approx(1.0, rel=0.05)
    assert steady.per_second(119.0) == pytest.approx(0.1)
    assert ArrivalRate(since=0.0).per_second(50.0) == 0.0
