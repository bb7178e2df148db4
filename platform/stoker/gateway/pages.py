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
from stoker.nouns.version import VERSION
from stoker.sdk.metrics import CONTENT_TYPE, render
from stoker.sdk.routing import Lane, Router

_METHODS = "GET, HEAD"
_V1_METHODS = "GET, HEAD, POST"
"""Below ``/v1``, functions are asked by POST."""


class WrongMethod(MethodNotAllowed):
    """A 405 that says, as RFC 9110 (15.5.6) asks, what is allowed.

    Args:
        path: as it was requested.
        method: the wrong one.
        allowed: the value of ``Allow``.
    """

    def __init__(self, path: str, method: str, allowed: str) -> None:
        super().__init__(f"{path} does not take {method}; it takes {allowed}")
        self._allowed = allowed

    def headers(self) -> dict[str, str]:
        """See `StokerError`."""
        return {**super().headers(), "Allow": self._allowed}


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
        asked = request.path.partition("?")[0]
        name, rest = first_segment(asked)
        if request.method not in ("GET", "HEAD"):
            raise WrongMethod(asked, request.method, _V1_METHODS if name == "v1" else _METHODS)
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
        raise NotFound(f"no route {asked}")

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
            self._readiness()
            return _json({"ready": True})
        if rest == "/":
            return _json(
                {"name": "stoker", "version": VERSION, "extensions": ["binary_tensor_data"]}
            )
        raise NotFound(f"no route /v2{rest}")

    def _served(self) -> list[Lane]:
        """Each name once: that of the function which answers by it."""
        lanes = (lane for lane in self._router.lanes.values() if lane.limits.serves_model)
        found = (lane for lane in lanes if by_model(self._router, _model_id(lane)) is lane)
        return sorted(found, key=lambda lane: lane.name)


def _json(document: object) -> Answer:
    return 200, {"Content-Type": JSON}, orjson.dumps(document)


def _model_id(lane: Lane) -> str:
    return lane.limits.model or lane.name


def _model(lane: Lane) -> dict[str, object]:
    return {
        "id": _model_id(lane),
        "object": "model",
        "created": int(lane.record.created_at),
        "owned_by": lane.record.project,
    }
