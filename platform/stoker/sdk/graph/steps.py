"""mlrun's remote steps, sending to functions of this home without HTTP.

What differs: where a request goes out, where a function's URL is looked up, how an event passes
through a step (`stoker.sdk.graph.carry`), that the end of a request ends its calls, and that chunks
pass through a graph that streams.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import mlrun
import requests
from mlrun.serving import remote
from mlrun.utils import logger
from storey.flow import _StreamingStepMixin
from urllib3.util.retry import Retry

from stoker.nouns.errors import StokerError
from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.sdk.graph.blocking import BlockingSession
from stoker.sdk.graph.carry import Carried
from stoker.sdk.graph.quick_json import dumps, loads
from stoker.sdk.graph.request import Place, Request, Template, place
from stoker.sdk.graph.running import BOUNDS, bounds, running
from stoker.sdk.graph.session import MOVED, Neighbours, Session
from stoker.sdk.graph.targets import full_name, step_target
from stoker.sdk.routing.reply import Reply

BACKLOG = 64
"""Chunks of one answer that may lie between the graph and its client …"""
BACKLOG_LOOK_S = 0.01
"""… and how often it is looked whether they have become fewer, seconds."""
_JSON = "application/json"
_FAILED = (FunctionState.ERROR, FunctionState.UNHEALTHY)


class _LocalStep(Carried):
    """What the three have in common; before mlrun's class in the order of inheritance."""

    context: Any
    url: str | None
    _client_session: Any
    _session: Any

    def is_local(self) -> bool:
        """See `Carried`."""
        return self._neighbours() is not None

    async def _lazy_init(self) -> None:
        local = self._neighbours()
        if local is None:
            await super()._lazy_init()  # type: ignore[misc]
        else:
            self._client_session = Session(*local)

    def _neighbours(self) -> tuple[Neighbours, Place] | None:
        """How this process reaches other functions; None where it cannot, as in a mock server."""
        platform = getattr(self.context, "platform", None)
        found: Neighbours | None = getattr(platform, "neighbours", None)
        gateway = place(found.gateway_url) if found is not None else None
        return None if found is None or gateway is None else (found, gateway)

    def _url_of(self, function: str | None) -> str | None:
        """Where a function answers, as the dashboard would say; None when it must be asked."""
        local = self._neighbours()
        if local is None or function is None:
            return None
        record: FunctionRecord | None = local[0].find(function)
        if record is None or record.state in _FAILED:
            return None  # the dashboard says what is wrong, in the words that mlrun knows
        return f"{local[0].gateway_url}/{function}"

    def _step_url(self, url: str | None) -> str | None:
        server = getattr(self.context, "server", None)
        if not url or "://" in url or server is None:
            return None
        return self._url_of(step_target(url, server.function_uri or ""))

    @contextmanager
    def _instead_of_url(self, found: str | None) -> Iterator[None]:
        """Inside, ``url`` is what was found: mlrun asks nobody about a URL."""
        named, self.url = self.url, found or self.url
        try:
            yield
        finally:
            self.url = named


class RemoteStep(_LocalStep, remote.RemoteStep, _StreamingStepMixin):  # type: ignore[misc]
    """See `mlrun.serving.remote.RemoteStep`."""

    _template: Template | None = None

    def post_init(self, mode: str = "sync", **kwargs: Any) -> None:
        """See mlrun's; the function's URL is looked up here, where that is possible."""
        with self._instead_of_url(self._step_url(self.url)):
            super().post_init(mode, **kwargs)

    # -- async flows

    async def _lazy_init(self) -> None:
        await super()._lazy_init()
        local = self._neighbours()
        varies = (
            self._url_function_handler or self._headers_function_handler or self._append_event_path
        )
        if local is not None and self._endpoint and not varies:
            neighbours, gateway = local
            key = neighbours.gateway_key
            self._template = Template.of(
                self._endpoint, self.headers or {}, gateway=gateway, key=key
            )

    async def _process_event(self, event: Any) -> Any:
        """As mlrun's, which evaluates everything anew for each event."""
        if self._template is None:
            return await super()._process_event(event)
        request = self._request(self._template, event, self._get_event_or_body(event))
        session, url = self._client_session, self._endpoint
        timeout = self.timeout or None
        request_id, deadline, *_ = BOUNDS.get()
        began = time.monotonic() if timeout is not None else 0.0
        try:
            # As `Session.call`, which would be one more coroutine at every step.
            try:
                reply = await session.neighbours.call(
                    *request,
                    timeout=timeout,
                    deadline=deadline,
                    watched=deadline is not None,
                    request_id=request_id,
                )
            except StokerError as error:
                reply = session.refused(error, began, timeout, request_id)
            if reply.status in MOVED:
                options = {"headers": request.headers, "data": request.body or None}
                reply = await session.onward(reply, request.method, url, options)
        except TimeoutError:
            logger.error(f"http request to {url} timed out in RemoteStep {self.name}")
            raise
        if reply.status >= 500:
            raise RuntimeError(f"bad http response {reply.status}: {await reply.text()}")
        return reply

    def _request(self, template: Template, event: Any, body: Any) -> Request:
        """What `_generate_request` makes of an event, as a call."""
        method = self.method or event.method or "POST"
        added, kind = {}, None
        if event.path.lstrip("/"):
            added["mlrun-event-path"] = event.path
        if event.id:
            added["mlrun-event-id"] = event.id
        if method == "GET":
            body = None
        elif body is not None and not isinstance(body, str | bytes):
            if self._body_function_handler:
                body = self._body_function_handler(body)
            body, kind = dumps(body), _JSON
        return template.request(method, body, added, kind)

    async def _handle_completed(self, event: Any, response: Any) -> None:
        if type(response) is not Reply or response.status >= 400:
            await super()._handle_completed(event, response)
        elif response.whole is not None:
            is_json = self.return_json or response.own.get("content-type", "").lower() == _JSON
            data = loads(response.whole) if is_json else response.whole
            await self.pass_on(self._user_fn_output_to_event(event, data))
        else:
            with _ending_with(event, response):
                await self._emit_streaming_chunks(event, _bodies(event, response))

    def _streams(self, reply: Reply) -> bool:
        server = getattr(self.context, "server", None)
        return reply.status < 400 and bool(getattr(server, "streaming", False))

    # -- sync graphs

    def do_event(self, event: Any) -> Any:
        """See `mlrun.serving.remote.RemoteStep.do_event`."""
        local = self._neighbours()
        if local is not None:
            BOUNDS.set(bounds(running(event), waited=True, step=self.name))
            if self._session is None:
                self._session = self._blocking_session(*local)
        return super().do_event(event)

    def _blocking_session(self, neighbours: Neighbours, gateway: Place) -> BlockingSession:
        """What mlrun would make here, with the same retries."""
        factor = self.backoff_factor or mlrun.mlconf.http_retry_defaults.backoff_factor
        retry = Retry(
            total=self.retries,
            backoff_factor=factor,
            status_forcelist=mlrun.mlconf.http_retry_defaults.status_codes,
            allowed_methods=None,
            raise_on_status=False,
        )

        def elsewhere() -> requests.Session:
            session: requests.Session = mlrun.utils.HTTPSessionWithRetry(
                self.retries,
                factor,
                retry_on_exception=False,
                retry_on_status=bool(self.retries),
                retry_on_post=True,
            )
            return session

        agent = f"{requests.utils.default_user_agent()} mlrun/{mlrun.mlconf.version}"
        tries = retry if self.retries else None
        return BlockingSession(neighbours, gateway, agent, tries, elsewhere)


class RemoteFunctionStep(RemoteStep, remote.RemoteFunctionStep):  # type: ignore[misc]
    """See `mlrun.serving.remote.RemoteFunctionStep`."""

    def post_init(self, mode: str = "sync", **kwargs: Any) -> None:
        """See mlrun's; what it would ask MLRun's API for is looked up here."""
        url = self._url_of(self._deployed_name())
        if url is None:
            super().post_init(mode, **kwargs)
            return
        self.rundb, self.url = mlrun.get_run_db(), url
        remote.RemoteStep.post_init(self, mode, **kwargs)

    def _deployed_name(self) -> str | None:
        """The function's name in Nuclio; None for what mlrun is to judge."""
        if not isinstance(self.fn, str) or not self.fn:
            return None
        named = self.fn.partition("/")[0] if "/" in self.fn else ""
        if named and self.project_name and named != self.project_name:
            return None
        return full_name(self.fn, self.project_name or mlrun.mlconf.active_project or "")


class BatchHttpRequests(_LocalStep, remote.BatchHttpRequests):  # type: ignore[misc]
    """See `mlrun.serving.remote.BatchHttpRequests`."""

    def post_init(self, mode: str = "sync", **kwargs: Any) -> None:
        """See mlrun's; the function's URL is looked up here, where that is possible."""
        with self._instead_of_url(self._step_url(self.url)):
            super().post_init(mode, **kwargs)

    async def _try_again(self, event: Any, exc: Exception) -> Any:
        """Each of its requests has been tried often enough."""
        del event
        raise exc


@contextmanager
def _ending_with(event: Any, reply: Reply) -> Iterator[None]:
    """Inside, a streamed answer breaks off when nobody waits for its request any more."""
    request = running(event)
    if request is not None:
        request.on_end(reply.abandon)
    try:
        yield
    finally:
        if request is not None:
            request.off_end(reply.abandon)


async def _bodies(event: Any, reply: Reply) -> AsyncIterator[Any]:
    """The chunks, as fast as the graph's own client takes them."""
    waiting = getattr(getattr(event, "_awaitable_result", None), "_q", None)
    request = running(event)
    is_json = reply.own.get("content-type", "").lower() == _JSON
    async for chunk in reply.chunks():
        yield _json_or_bytes(chunk) if is_json else chunk
        while waiting is not None and waiting.qsize() >= BACKLOG:
            if request is not None and request.ended:
                break
            await asyncio.sleep(BACKLOG_LOOK_S)


def _json_or_bytes(chunk: bytes) -> Any:
    try:
        return json.loads(chunk)
    except ValueError:
        return chunk
