"""Puts the control port together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Protocol, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from stoker.api.dashboard import Dashboard
from stoker.api.functions import Functions
from stoker.api.guard import Guard
from stoker.api.health import Health
from stoker.api.invocation import Invocations
from stoker.api.metrics import Metrics
from stoker.api.mlrun import mlrun_resources
from stoker.api.overview import Overview, Snapshot
from stoker.api.page import Page
from stoker.api.projects import Projects
from stoker.api.reply import error_reply
from stoker.api.rollouts import Rollouts
from stoker.api.settings import ApiSettings
from stoker.api.streams import StreamViews
from stoker.api.v3io import V3io, V3ioObjects
from stoker.nouns.errors import BadRequest, MethodNotAllowed, NotFound, StokerError
from stoker.nouns.home import Home
from stoker.store import Store
from stoker.store.catalog import Catalog

log = logging.getLogger(__name__)


def build_app(
    store: Store,
    catalog: Catalog,
    home: Home,
    settings: ApiSettings,
    snapshot: Snapshot | None = None,
) -> Starlette:
    """The control port as an ASGI app.

    Args:
        store: the home's store, which outlives the app.
        catalog: MLRun's objects, which outlives the app too.
        home: where the functions' logs lie.
        settings: names, keys, limits, and where the data port is.
        snapshot: the controller's view when it runs in this process: ``leading``, and ``devices``
            as id -> facts and bytes, as `stoker.controller.overview` makes them.
    """
    invocations = Invocations(store, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await invocations.close()

    resources: tuple[Resource, ...] = (
        V3io(store),
        *mlrun_resources(store, catalog, home, settings, snapshot),
        Functions(store, home, settings),
        Projects(store),
        invocations,
        Dashboard(settings),
        Overview(store, home, settings, snapshot),
        StreamViews(store),
        Rollouts(store),
        Health(store, snapshot),
        Metrics(store, snapshot),
        Page(),
        V3ioObjects(store),
    )
    app = Starlette(
        routes=[route for resource in resources for route in resource.routes()],
        middleware=[Middleware(PlainPath), Middleware(Guard, settings=settings)],
        exception_handlers={
            StokerError: cast("ExceptionHandler", _refused),
            HTTPException: cast("ExceptionHandler", _no_route),
            ClientDisconnect: _cut_off,
            Exception: _broken,
        },
        lifespan=lifespan,
    )
    # `PlainPath` takes the slash off that a redirect would put on: its client would go in circles.
    app.router.redirect_slashes = False
    return app


class Resource(Protocol):
    """A group of routes."""

    def routes(self) -> Sequence[BaseRoute]:
        """Its routes; those of the first resources are asked first."""


class PlainPath:
    """Takes the trailing slash off: a redirect would cost clients the body of a DELETE."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on under its plain path."""
        if scope["type"] == "http" and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = dict(scope) | {"path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


def _refused(request: Request, error: StokerError) -> Response:
    return error_reply(error, request.url.path)


def _no_route(request: Request, error: HTTPException) -> Response:
    path = request.url.path
    if error.status_code == 404:
        return error_reply(NotFound(f"there is no route {path}"), path)
    if error.status_code == 405:
        reply = error_reply(MethodNotAllowed(f"{path} does not take {request.method}"), path)
        reply.headers.update(error.headers or {})
        return reply
    return error_reply(BadRequest(str(error.detail)), path)


def _cut_off(request: Request, _error: Exception) -> Response:
    # Nobody is left to read this. Left unhandled, each client that goes away mid-body would put
    # two tracebacks into the log.
    return error_reply(BadRequest("the body was cut off"), request.url.path)


def _broken(request: Request, error: Exception) -> Response:
    # What went wrong stays in the log: its text may hold what the client must not see.
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_reply(StokerError("internal error; the controller's log has it"), request.url.path)
