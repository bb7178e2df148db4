"""MLRun's function objects: store, read, list, delete."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun import deploy_status
from stoker.api.mlrun.asked import choice, moment, text, texts
from stoker.api.mlrun.directory import Directory
from stoker.api.mlrun.function_object import (
    DEPLOYED_KINDS,
    FunctionObject,
    full_name,
    must_be_segment,
    normalised,
)
from stoker.api.mlrun.function_secrets import masked_function, restored_function
from stoker.api.mlrun.pages import Paging
from stoker.api.mlrun.turns import Turns
from stoker.api.reply import Json, flag, json_body
from stoker.api.settings import ApiSettings
from stoker.nouns.errors import NotFound
from stoker.nouns.near import near_names
from stoker.nouns.record import FunctionRecord
from stoker.store import Store
from stoker.store.catalog import Catalog
from stoker.store.catalog.document import Document, looked_up, part, text_at
from stoker.store.catalog.functions import LATEST, FunctionQuery

_ONE = "/api/v1/projects/{project}/functions/{name}"
_OLD = "/api/v1/func/{project}/{name}"
"""The path of clients before 1.6."""
_MINIMAL = (
    "kind",
    "metadata",
    "status",
    "spec.description",
    "spec.command",
    "spec.image",
    "spec.default_handler",
    "spec.default_class",
    "spec.graph",
    "spec.preemption_mode",
    "spec.node_selector",
    "spec.priority_class_name",
)
"""What a listing in the format ``minimal`` shows."""


@dataclass(frozen=True, slots=True)
class Functions:
    """The resource."""

    store: Store
    catalog: Catalog
    settings: ApiSettings
    directory: Directory
    turns: Turns

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route(_ONE, self.save, methods=["POST"]),
            Route(_ONE, self.read, methods=["GET"]),
            Route(_ONE, self.delete, methods=["DELETE"]),
            Route("/api/v2/projects/{project}/functions/{name}", self.delete, methods=["DELETE"]),
            Route("/api/v1/projects/{project}/functions", self.list_all, methods=["GET"]),
            Route(_OLD, self.save, methods=["POST"]),
            Route(_OLD, self.read, methods=["GET"]),
            Route("/api/v1/funcs", self.list_all, methods=["GET"]),
        ]

    async def save(self, request: Request) -> Response:
        """Keeps the object; it is not deployed by that."""
        project, name = _names(request)
        tag = text(request.query_params, "tag") or ""
        function = FunctionObject.read(await json_body(request), project, name)
        await self.directory.require(project)
        async with self.turns.of(project, function.name):
            before = await self.catalog.functions.get(project, function.name, tag=tag)
            document = await asyncio.to_thread(
                restored_function, function.document, *([before] if before else [])
            )
            key = await self.catalog.functions.store(
                project,
                function.name,
                document,
                tag=tag,
                versioned=(flag(request.query_params.get("versioned")),),
            )
        return Json({"hash_key": key})

    async def read(self, request: Request) -> Response:
        """One object by tag or hash, whole, its status as it is now."""
        project, name = _names(request)
        query = request.query_params
        tag, key = text(query, "tag") or "", text(query, "hash_key") or ""
        minimal = choice(query, "format", ("full", "minimal")) == "minimal"
        found = await self.catalog.functions.get(project, normalised(name), tag=tag, hash_key=key)
        if found is None:
            raise await self._missing(project, normalised(name), tag, key)
        if tag or not key:
            record = await self.store.get_function(_deployed_name(found))
            found = _with_status(found, record, self.settings)
        return Json({"func": _reduced(found) if minimal else found})

    async def list_all(self, request: Request) -> Response:
        """Objects of a project, secrets masked."""
        paging = Paging.of(request.query_params)
        query = paging.query
        project = request.path_params.get("project") or text(query, "project") or "default"
        minimal = choice(query, "format", ("full", "minimal")) == "minimal"
        states = texts(query, "state", "states")
        asked = FunctionQuery(
            project=project,
            name=text(query, "name") or "",
            tag=text(query, "tag") or "",
            kind=text(query, "kind") or "",
            hash_key=text(query, "hash_key") or "",
            labels=texts(query, "label", "labels"),
            since=moment(query, "since"),
            until=moment(query, "until"),
        )
        found = await self._current(asked)
        if states:
            found = [f for f in found if text_at(f, "status", "state") in states]
        rows = paging.rows
        end = None if rows.size is None else rows.start + rows.size
        # Copies of whole objects, whose code and data may be large.
        shown = await asyncio.to_thread(
            lambda: [masked_function(function) for function in found[rows.start : end]]
        )
        return Json(paging.reply("funcs", [_reduced(f) for f in shown] if minimal else shown))

    async def delete(self, request: Request) -> Response:
        """Forgets the function, and ends what is deployed of it under any tag."""
        project, name = _names(request)
        name = normalised(name)
        async with self.turns.of(project, name):
            tags = await self.catalog.functions.tags(project, name)
            for deployed in {full_name(project, name, tag) for tag in [LATEST, *tags]}:
                record = await self.store.get_function(deployed)
                if record is not None and record.project == project:
                    await self.store.delete_function(deployed)
            await self.catalog.functions.delete(project, name)
        return Response(status_code=204)

    async def _current(self, asked: FunctionQuery) -> list[Document]:
        functions = await self.catalog.functions.search(asked)
        records = await self.store.list_functions() if functions else {}
        return [
            f
            if f.get("status", {}) is None
            else _with_status(f, records.get(_deployed_name(f)), self.settings)
            for f in functions
        ]

    async def _missing(self, project: str, name: str, tag: str, key: str) -> NotFound:
        where = f"{project}/{name}" + (f":{tag}" if tag else f"@{key}" if key else "")
        tags = await self.catalog.functions.tags(project, name)
        if tags:
            return NotFound(
                f"Function not found {where}; its tags are {', '.join(tags)}", near=tags
            )
        near = near_names(name, await self.catalog.functions.names(project))
        hint = f"; near names: {', '.join(near)}" if near else ""
        return NotFound(f"Function not found {where}{hint}", near=near)


def _names(request: Request) -> tuple[str, str]:
    project = must_be_segment(request.path_params["project"], "the project")
    return project, must_be_segment(request.path_params["name"], "the function's name")


def _deployed_name(function: Document) -> str:
    project, name = text_at(function, "metadata", "project"), text_at(function, "metadata", "name")
    return full_name(project, name, text_at(function, "metadata", "tag"))


def _with_status(
    function: Document, record: FunctionRecord | None, settings: ApiSettings
) -> Document:
    """The object with the state and the addresses of what is deployed of it now."""
    kind = str(function.get("kind") or "").partition(":")[0]
    if kind not in DEPLOYED_KINDS:
        return function
    status = part(function, "status")
    if record is not None and record.project == text_at(function, "metadata", "project"):
        function["status"] = status | deploy_status.status_fields(record, settings)
    elif status:
        # Whatever was deployed is gone: an address left here would be called.
        gone: dict[str, Any] = {"state": "", "address": ""}
        gone |= {"internal_invocation_urls": [], "external_invocation_urls": []}
        function["status"] = status | gone
    return function


def _reduced(function: Document) -> Document:
    reduced: Document = {}
    for path in _MINIMAL:
        outer, _, inner = path.partition(".")
        value = looked_up(function, *path.split("."))
        if value is None:
            continue
        if inner:
            part(reduced, outer)[inner] = value
        else:
            reduced[outer] = value
    return reduced
