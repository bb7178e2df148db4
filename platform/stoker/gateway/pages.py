"""The routes of our own: health, metrics, model listings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import orjson

from stoker.gateway.front import Answer, LocalRequest
from stoker.gateway.replies import JSON
from stoker.gateway.routes import by_model, first_segment
from stoker.nouns.errors import MethodNotAllowed, NotFound, StoreUnavailable
from stoker.nouns.metrics import GatewaySnapshot
from stoker.sdk.metrics import CONTENT_TYPE, render
from stoker.sdk.routing import Lane, Router


class Pages:
    """Answers what is asked of the gateway itself.

    Args:
        ready: whether the functions and replicas have been read once.
        snapshot: this gateway's id and counts.
        invocation: answers ``/invocations/<id>``.
    """

    def __init__(
        self,
        router: Router,
        *,
        ready: Callable[[], bool],
        snapshot: Callable[[], tuple[str, GatewaySnapshot]],
        invocation: Callable[[str], Awaitable[Answer]],
    ) -> None:
        self._router = router
        self._ready = ready
        self._snapshot = snapshot
        self._invocation = invocation

    async def answer(self, request: LocalRequest) -> Answer:
        """The answer to a request that names no function.

        Raises:
            MethodNotAllowed: only reading is possible here.
            NotFound: there is no such route.
            StoreUnavailable: not ready yet, or Redis is needed and gone.
        """
        name, rest = first_segment(request.path)
        rest = rest.partition("?")[0]
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"/{name}{rest} can only be read")
        if name == "healthz":
            return _json({"status": "ok"})
        if name == "readyz":
            return self._readiness()
        if name == "metrics":
            return self._metrics()
        if name == "invocations" and rest != "/":
            return await self._invocation(rest[1:])
        if name == "v1":
            return self._openai(rest)
        if name == "v2":
            return self._open_inference(rest)
        raise NotFound(f"no route /{name}{rest}")

    def _readiness(self) -> Answer:
        if not self._ready():
            raise StoreUnavailable("the functions have not been read from the store yet")
        return _json({"status": "ready"})

    def _metrics(self) -> Answer:
        gateway, snapshot = self._snapshot()
        return 200, {"Content-Type": CONTENT_TYPE}, render(lambda: {gateway: snapshot})

    def _openai(self, rest: str) -> Answer:
        if rest in ("/models", "/models/"):
            models = [_model(lane) for lane in self._served()]
            return _json({"object": "list", "data": models})
        if rest.startswith("/models/"):
            return _json(_model(by_model(self._router, unquote(rest[len("/models/") :]))))
        raise NotFound(f"no route /v1{rest}")

    def _open_inference(self, rest: str) -> Answer:
        if rest == "/health/live":
            return _json({"live": True})
        if rest == "/health/ready":
            return self._readiness()
        if rest == "/":
            return _json({"name": "stoker", "extensions": []})
        raise NotFound(f"no route /v2{rest}")

    def _served(self) -> list[Lane]:
        lanes = (lane for lane in self._router.lanes.values() if lane.limits.serves_model)
        return sorted(lanes, key=lambda lane: lane.name)


def _json(document: object) -> Answer:
    return 200, {"Content-Type": JSON}, orjson.dumps(document)


def _model(lane: Lane) -> dict[str, object]:
    return {
        "id": lane.limits.model or lane.name,
        "object": "model",
        "created": int(lane.record.created_at),
        "owned_by": lane.record.project,
    }
