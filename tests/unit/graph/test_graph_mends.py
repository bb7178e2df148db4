"""What a review found: calls that outlive their reader, openings that fail unheard, keys abroad."""

from __future__ import annotations

import asyncio
from typing import Any

import nuclio_sdk
import pytest

from stoker.nouns.errors import StoreUnavailable
from stoker.sdk.graph.session import with_key
from stoker.worker import switchboard
from stoker.worker.calls import GatewayPlatform
from stoker.worker.neighbours import Neighbours

Stage = Any
KEY = "the-platforms-key"


async def test_whoever_gives_up_gathering_a_streamed_answer_ends_the_call(stage: Stage) -> None:
    worker = await stage.function()
    to_endless = stage.reach().call("p-echo", "POST", "/endless", {"content-type": "text/plain"})
    reply = await to_endless
    reading = asyncio.create_task(reply.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await stage.until(lambda: worker.cancelled)


async def test_an_opening_that_failed_with_nobody_left_to_hear_it_is_tried_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.function()
    neighbours = stage.reach()
    connected = switchboard.Store.connect
    hangs: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def away(_url: str) -> Any:
        await hangs
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(switchboard.Store, "connect", away)
    first = asyncio.create_task(neighbours.call("p-echo", "POST", "/", {}, b"x"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hangs.set_result(None)
    monkeypatch.setattr(switchboard.Store, "connect", connected)
    for _ in range(10):
        await asyncio.sleep(0)
    reply = await neighbours.call("p-echo", "POST", "/", {}, b"x")
    assert await reply.read() == b"x"


@pytest.mark.parametrize(
    ("address", "brought"), [(None, True), ("127.0.0.1:8080", True), ("10.0.0.9:8080", False)]
)
def test_the_key_goes_to_the_gateway_alone(
    address: str | None, brought: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def call(_self: Any, _name: str, event: Any, *_: Any) -> None:
        seen.update(event.headers)

    monkeypatch.delenv("STOKER_API_KEY", raising=False)
    monkeypatch.setattr(nuclio_sdk.Platform, "call_function", call)
    neighbours = Neighbours("", "w", gateway_url="http://127.0.0.1:8080", gateway_key=KEY)
    event = nuclio_sdk.Event(body=b"x", method="POST", path="/", headers={})
    GatewayPlatform(neighbours, "p").call_function("f", event, service_name_override=address)
    assert (KEY in seen.values()) is brought


def test_the_key_is_of_the_kind_that_clients_leave_behind_at_a_redirect() -> None:
    assert with_key({"accept": "*/*"}, KEY) == {"accept": "*/*", "Authorization": f"Bearer {KEY}"}
    own = with_key({"authorization": "Bearer mine"}, KEY)
    assert own == {"authorization": "Bearer mine", "X-API-Key": KEY}
