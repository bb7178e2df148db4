"""Requests that nobody waits for: kept in the store, run at least once, their answers kept."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

import orjson

from stoker.gateway.front import Answer, LocalRequest
from stoker.gateway.replies import JSON, worker_envelope
from stoker.gateway.routes import trigger_of
from stoker.gateway.settings import GatewaySettings
from stoker.nouns.errors import (
    FunctionNotFound,
    NoCapacity,
    NotFound,
    QueueFull,
    StokerError,
    StoreUnavailable,
)
from stoker.nouns.invocation import Invocation, InvocationState
from stoker.nouns.wire import ResponseMeta
from stoker.sdk.routing import Call, Router
from stoker.store import Store

log = logging.getLogger(__name__)

CLAIM_BLOCK_S = 2.0
"""How long one claim waits for work, seconds."""
BUSY_PATIENCE_S = 900.0
"""How long an invocation is tried again while all workers are busy, seconds."""
LONGEST_RETRY_S = 5.0
"""Between two such tries, seconds."""
STORE_RETRY_S = 1.0
"""Between claims while the store is away, seconds."""


class Outcome:
    """A `Caller` that gathers the whole answer."""

    __slots__ = ("_body", "_meta", "done")

    def __init__(self) -> None:
        self.done: asyncio.Future[tuple[ResponseMeta, bytes]] = (
            asyncio.get_running_loop().create_future()
        )
        self._meta: ResponseMeta = {"status": 200, "headers": {}}
        self._body: list[bytes] = []

    def on_response(self, _call: Call, meta: ResponseMeta, body: bytes) -> None:
        """See `Caller`."""
        self.done.set_result((meta, body))

    def on_head(self, _call: Call, meta: ResponseMeta) -> None:
        """See `Caller`."""
        self._meta = meta

    def on_chunk(self, _call: Call, data: bytes) -> None:
        """See `Caller`."""
        self._body.append(data)

    def on_end(self, _call: Call) -> None:
        """See `Caller`."""
        self.done.set_result((self._meta, b"".join(self._body)))

    def on_error(self, _call: Call, error: StokerError) -> None:
        """See `Caller`."""
        self.done.set_exception(error)


class Invocations:
    """Accepts, runs and reports durable invocations."""

    def __init__(self, store: Store, router: Router, settings: GatewaySettings) -> None:
        self._store = store
        self._router = router
        self._settings = settings

    async def accept(self, request: LocalRequest) -> Answer:
        """Keeps a request; 202 and where its answer will be.

        Raises:
            StoreUnavailable: it cannot be kept, so it is not accepted.
        """
        document = {"method": request.method, "path": request.path, "headers": request.headers}
        invocation = await self._store.add_invocation(
            uuid.uuid4().hex,
            request.function,
            document,
            request.body,
            idempotency_key=request.headers.get("idempotency-key"),
        )
        place = f"/invocations/{invocation}"
        headers = {
            "Content-Type": JSON,
            "Location": place,
            "Preference-Applied": "respond-async",
        }
        return 202, headers, orjson.dumps({"id": invocation, "location": place})

    async def report(self, invocation_id: str) -> Answer:
        """How an invocation stands, or its answer.

        Raises:
            NotFound: nobody knows it, or its answer has expired.
            StoreUnavailable: Redis is away.
        """
        invocation = await self._store.get_invocation(invocation_id)
        if invocation is None:
            raise NotFound(f"no invocation {invocation_id!r}")
        state = {"X-Stoker-Invocation": invocation.state.value}
        if invocation.state is InvocationState.FINISHED and invocation.status is not None:
            return invocation.status, {**invocation.headers, **state}, invocation.reply
        body = orjson.dumps({"id": invocation.id, "state": invocation.state.value})
        return 202, {"Content-Type": JSON, **state}, body

    async def run(self) -> None:
        """Runs invocations, one after the other, until cancelled."""
        while True:
            try:
                invocation = await self._store.claim_invocation(
                    self._settings.gateway,
                    block_s=CLAIM_BLOCK_S,
                    idle_s=self._settings.invocation_takeover_s,
                )
                if invocation is not None:
                    await self._execute(invocation)
            except StoreUnavailable as error:
                log.info("no invocations while the store is away: %s", error)
                await asyncio.sleep(STORE_RETRY_S)

    async def _execute(self, invocation: Invocation) -> None:
        # Whoever waits longer than the take-over time would be taken for dead, and run twice.
        renewing = asyncio.create_task(self._renew(invocation.id))
        try:
            await self._run_to_its_end(invocation)
        finally:
            renewing.cancel()

    async def _renew(self, invocation_id: str) -> None:
        while True:
            await asyncio.sleep(self._settings.invocation_takeover_s / 4)
            try:
                await self._store.renew_invocation(self._settings.gateway, invocation_id)
            except StoreUnavailable as error:
                log.info("the claim on %s could not be renewed: %s", invocation_id, error)

    async def _run_to_its_end(self, invocation: Invocation) -> None:
        try:
            meta, body = await self._call_patiently(invocation)
        except StokerError as error:
            headers = {"content-type": JSON, **error.headers()}
            reply = orjson.dumps(error.envelope(invocation.id), default=str)
            await self._store.finish_invocation(invocation.id, error.status, headers, reply)
            return
        headers = meta["headers"]
        if "code" in meta:
            headers = {"content-type": JSON}
            body = worker_envelope(meta["code"], body, invocation.id)
        await self._store.finish_invocation(invocation.id, meta["status"], headers, body)

    async def _call_patiently(self, invocation: Invocation) -> tuple[ResponseMeta, bytes]:
        """Runs it, again where all were merely busy: nobody waits for this one.

        Raises:
            StokerError: there is no answer.
        """
        until = time.monotonic() + BUSY_PATIENCE_S
        while True:
            try:
                return await self._call(invocation)
            except (NoCapacity, QueueFull) as busy:
                if time.monotonic() >= until:
                    raise
                await asyncio.sleep(min(busy.retry_after_s or 1.0, LONGEST_RETRY_S))

    async def _call(self, invocation: Invocation) -> tuple[ResponseMeta, bytes]:
        """Runs it once.

        Raises:
            StokerError: there is no answer.
        """
        lane = self._router.lanes.get(invocation.function)
        if lane is None:
            raise FunctionNotFound(f"no function {invocation.function!r}")
        timeout = lane.limits.event_timeout_s
        outcome = Outcome()
        call = Call(
            outcome,
            invocation.id,
            invocation.request["method"],
            invocation.request["path"],
            invocation.request["headers"],
            invocation.body,
            deadline=None if timeout is None else time.monotonic() + timeout,
            idempotent=True,  # at least once is what its client asked for
            trigger=trigger_of(invocation.request["headers"]),
        )
        lane.submit(call)
        try:
            return await outcome.done
        finally:
            call.cancel()
