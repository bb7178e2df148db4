from __future__ import annotations

import pytest

from stoker.nouns.rollout import RolloutEvent, Step
from stoker.store import Store, keys


def event(at: float, step: Step = Step.STARTED) -> RolloutEvent:
    evidence = {"canary": {"requests": 7, "p95_ms": None}}
    return RolloutEvent(
        step=step, revision=2, stable=1, at=at, who="ann", why="né", evidence=evidence
    )


async def test_events_are_read_in_order_each_as_it_was_written(store: Store) -> None:
    for at in (1.0, 2.0, 3.0):
        await store.add_rollout_event("echo", event(at))
    await store.add_rollout_event("other", event(9.0))
    assert await store.read_rollout_events("echo") == [event(1.0), event(2.0), event(3.0)]
    assert await store.read_rollout_events("nobody") == []


async def test_a_namesakes_events_are_left_out(store: Store) -> None:
    await store.add_rollout_event("echo", event(1.0))
    await store.add_rollout_event("echo", event(5.0))
    assert await store.read_rollout_events("echo", since=4.0) == [event(5.0)]


async def test_a_history_is_short_and_does_not_stay_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "ROLLOUT_EVENTS", 5)
    for at in range(9):
        await store.add_rollout_event("echo", event(float(at)))
    assert [one.at for one in await store.read_rollout_events("echo")] == [4, 5, 6, 7, 8]
    left = await store._link.call("TTL", keys.rollouts("echo"))
    assert keys.ROLLOUT_TTL_S - 5 <= left <= keys.ROLLOUT_TTL_S


async def test_what_cannot_be_read_is_left_out_and_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await store._link.call("XADD", keys.rollouts("echo"), "*", "event", b'{"step": "flew"}')
    await store.add_rollout_event("echo", event(1.0))
    assert await store.read_rollout_events("echo") == [event(1.0)]
    assert "cannot be read" in caplog.text
