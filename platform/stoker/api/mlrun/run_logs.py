"""Logs of MLRun's runs."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.api.mlrun.asked import number
from stoker.api.mlrun.directory import Directory
from stoker.api.reply import Json, flag
from stoker.store.catalog import Catalog
from stoker.store.catalog.document import text_at


@dataclass(frozen=True, slots=True)
class RunLogs:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes; the short ones are what clients before 1.8 call."""
        root = "/api/v1/projects/{project}/logs/{uid}"
        routes = [Route(root + "/size", self.size, methods=["GET"])]
        for one in (root, "/api/v1/log/{project}/{uid}"):
            routes += [
                Route(one, self.read, methods=["GET"]),
                Route(one, self.write, methods=["POST"]),
            ]
        return routes

    async def write(self, request: Request) -> Response:
        """Adds the body to the log; with ``append=no`` in place of what was there."""
        project, uid = request.path_params["project"], request.path_params["uid"]
        append = flag(request.query_params.get("append"), default=True)
        body = await request.body()
        await self.directory.require(project)
        await self.catalog.run_logs.write(project, uid, body, append=append)
        return Json({})

    async def read(self, request: Request) -> Response:
        """The log from ``offset`` on, at most ``size`` bytes, and the run's state in a header."""
        project, uid = request.path_params["project"], request.path_params["uid"]
        offset = number(request.query_params, "offset") or 0
        size = number(request.query_params, "size", -1)
        await self.directory.require(project)
        run = await self.catalog.runs.find(project, uid, 0)
        pieces = self.catalog.run_logs.read(project, uid, offset, None if size == -1 else size)
        return StreamingResponse(
            pieces,
            media_type="text/plain",
            headers={"x-mlrun-run-state": _header(text_at(run, "status", "state"))},
        )

    async def size(self, request: Request) -> Response:
        """How long the log is, in bytes."""
        project, uid = request.path_params["project"], request.path_params["uid"]
        await self.directory.require(project)
        return Json({"size": await self.catalog.run_logs.size(project, uid)})


def _header(state: str) -> str:
    # A client may have stored anything as its state; not anything can stand in a header.
    return state if state.isascii() and state.isalnum() else "unknown"
