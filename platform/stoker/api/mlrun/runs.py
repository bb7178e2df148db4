"""MLRun's runs: what their clients say of them while they execute them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun.asked import choice, number, span, text, texts
from stoker.api.mlrun.directory import Directory
from stoker.api.mlrun.pages import Paging
from stoker.api.reply import Json, flag, json_body
from stoker.nouns.errors import BadRequest, Conflict
from stoker.store.catalog import Catalog
from stoker.store.catalog.conditions import Page
from stoker.store.catalog.document import looked_up, text_at
from stoker.store.catalog.run_search import RunPartition, RunSearch
from stoker.store.catalog.runs import TERMINAL, UNDELETABLE

FORMATS = ("full", "standard", "notifications")
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Runs:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes; the short ones are what clients before 1.8 call."""
        root, v1 = "/api/v1/projects/{project}/runs", "/api/v1"
        routes = [
            Route(root, self.list_all, methods=["GET"]),
            Route(root, self.delete_all, methods=["DELETE"]),
            Route(v1 + "/runs", self.list_all, methods=["GET"]),
            Route(v1 + "/runs", self.delete_all, methods=["DELETE"]),
            Route(root + "/{uid}/abort", self.abort, methods=["POST"]),
        ]
        for one in (root + "/{uid}", v1 + "/run/{project}/{uid}"):
            routes += [
                Route(one, self.store, methods=["POST"]),
                Route(one, self.update, methods=["PATCH"]),
                Route(one, self.read, methods=["GET"]),
                Route(one, self.delete, methods=["DELETE"]),
            ]
        return routes

    async def store(self, request: Request) -> Response:
        """Keeps the run's document."""
        project, uid, iteration = _named(request)
        document = await json_body(request)
        if not text_at(document, "metadata", "name"):
            raise BadRequest("a run must have a metadata.name")
        await self.directory.require(project)
        await self.catalog.runs.store(project, uid, iteration, document)
        return Json({})

    async def update(self, request: Request) -> Response:
        """Sets values at dotted paths."""
        project, uid, iteration = _named(request)
        updates = await json_body(request)
        await self.directory.require(project)
        await self.catalog.runs.update(project, uid, iteration, updates)
        return Json({})

    async def read(self, request: Request) -> Response:
        """The run; in the full format with its artifacts."""
        project, uid, iteration = _named(request)
        wanted = choice(request.query_params, "format", FORMATS)
        await self.directory.require(project)
        document = await self.catalog.runs.find(
            project, uid, iteration, with_artifacts=wanted == "full"
        )
        return Json({"data": document})

    async def list_all(self, request: Request) -> Response:
        """What matches the conditions, in pages if asked for."""
        project = await self._project(request)
        paging = Paging.of(request.query_params)
        last = number(paging.query, "last")
        rows = Page(last) if last and not paging.size else paging.rows
        found = await self.catalog.runs.list_all(_search(project, paging.query), rows)
        return Json(paging.reply("runs", found))

    async def delete(self, request: Request) -> Response:
        """Forgets the run and all of its iterations."""
        project, uid, _iteration = _named(request)
        await self.directory.require(project)
        await self.catalog.runs.delete(project, uid)
        return Json({})

    async def delete_all(self, request: Request) -> Response:
        """Forgets what matches the conditions."""
        project, query = await self._project(request), request.query_params
        state, days = text(query, "state"), number(query, "days_ago")
        if state in UNDELETABLE:
            raise BadRequest(
                f"Can not delete runs in {state} state, consider aborting the run first"
            )
        search = RunSearch(
            project=project,
            name=text(query, "name"),
            labels=texts(query, "label"),
            states=(state,) if state else (),
            started=(time.time() - days * _DAY_S if days else None, None),
        )
        await self.catalog.runs.delete_all(search)
        return Json({})

    async def abort(self, request: Request) -> Response:
        """Always a refusal: what a client executes can only be ended where it is executed.

        Raises:
            BadRequest: the run is going on.
            Conflict: it is over.
            NotFound: there is no such run.
        """
        project, uid, iteration = _named(request)
        await self.directory.require(project)
        document = await self.catalog.runs.find(project, uid, iteration)
        if looked_up(document, "status", "state") in TERMINAL:
            raise Conflict("Run is already in terminal state, can not be aborted")
        kind = text_at(document, "metadata", "labels", "kind") or "local"
        raise BadRequest(
            f"Run of kind {kind} can not be aborted: it is executed by the process of its client, "
            "which has to be ended there. If that is gone, say so: "
            "update_run({'status.state': 'aborted'}, uid, project)"
        )

    async def _project(self, request: Request) -> str:
        query = request.query_params
        project: str = request.path_params.get("project") or text(query, "project") or "*"
        if project != "*":
            await self.directory.require(project)
        return project


def _named(request: Request) -> tuple[str, str, int]:
    path: dict[str, Any] = request.path_params
    return path["project"], path["uid"], number(request.query_params, "iter") or 0


def _search(project: str, query: QueryParams) -> RunSearch:
    return RunSearch(
        project=project,
        name=text(query, "name"),
        uids=texts(query, "uid"),
        labels=texts(query, "label"),
        states=texts(query, "states", "state"),
        iterations=flag(query.get("iter"), default=True),
        started=span(query, "start_time"),
        updated=span(query, "last_update_time"),
        ended=span(query, "end_time"),
        sort=flag(query.get("sort"), default=True),
        notified=flag(query.get("with-notifications")),
        partition=_partition(query),
    )


def _partition(query: QueryParams) -> RunPartition | None:
    by = text(query, "partition-by")
    if by is None:
        return None
    if text(query, "partition-sort-by") is None:
        raise BadRequest("sort parameter must be provided when partition_by is used.")
    return RunPartition(
        by=by,
        rows=number(query, "rows-per-partition", 1) or 1,
        sort=choice(query, "partition-sort-by", ("updated", "created")),
        descending=choice(query, "partition-order", ("desc", "asc")) == "desc",
        partitions=number(query, "max-partitions") or 0,
    )
