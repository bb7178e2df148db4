"""MLRun's deploy of a function, and the status that its client follows to the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api import settle, submit
from stoker.api.mlrun import deploy_status, references
from stoker.api.mlrun.asked import text
from stoker.api.mlrun.compile import Compiled, compile_function
from stoker.api.mlrun.device_fit import check_devices, sharing_note
from stoker.api.mlrun.directory import Directory
from stoker.api.mlrun.function_object import (
    FunctionObject,
    full_name,
    must_be_segment,
    normalised,
)
from stoker.api.mlrun.function_secrets import restored_function
from stoker.api.mlrun.local_source import with_local_code
from stoker.api.mlrun.refusals import check_graph
from stoker.api.mlrun.turns import Turns
from stoker.api.overview import Snapshot
from stoker.api.reply import Json, flag, json_body
from stoker.api.settings import ApiSettings
from stoker.api.who import who_of
from stoker.nouns.errors import BadRequest, Conflict, NotFound, NotSupported
from stoker.nouns.function import FunctionConfig
from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.store import Store
from stoker.store.catalog import Catalog

HOLD_S = 3.0
"""How long a status request without news is held, seconds. Well below the 45 s after which MLRun's
client gives up, and short enough for its own timeouts, which it looks at between two requests."""
_BUILT_KINDS = frozenset({"job", "dask", "mpijob", "spark", "databricks", "local", "handler"})
"""What MLRun runs and does not serve: to deploy it means to build its image."""
GATHER_S = 0.05
"""Lines of one moment are answered together."""


@dataclass(frozen=True, slots=True)
class Deploys:
    """The resource."""

    store: Store
    catalog: Catalog
    settings: ApiSettings
    directory: Directory
    snapshot: Snapshot | None
    turns: Turns

    def routes(self) -> list[Route]:
        """Its routes; the last two are those of clients before 1.7."""
        one = "/api/v1/projects/{project}/nuclio/{name}/deploy"
        return [
            Route(one, self.deploy, methods=["POST"]),
            Route(one, self.status, methods=["GET"]),
            Route("/api/v1/build/function", self.deploy_by_body, methods=["POST"]),
            Route("/api/v1/build/status", self.status_by_query, methods=["GET"]),
        ]

    async def deploy(self, request: Request) -> Response:
        """Compiles the posted function and writes it as the next revision."""
        project, name = _names(request.path_params)
        body = await json_body(request)
        data, record = await self._deploy(project, name, body, who_of(request))
        return Json(
            {"data": data, "background_tasks": {"background_tasks": []}},
            headers={"X-Stoker-Revision": str(record.last_revision)},
        )

    async def deploy_by_body(self, request: Request) -> Response:
        """The same, the names being those of the posted function."""
        body = await json_body(request)
        metadata = FunctionObject.posted_metadata(body.get("function"))
        _must_not_be_a_build(body["function"])
        project, name = _names({"project": metadata.get("project"), "name": metadata.get("name")})
        data, _ = await self._deploy(project, name, body, who_of(request))
        return Json({"data": data, "ready": False})

    async def status(self, request: Request) -> Response:
        """The state and the log's new lines; held until there is something new to say."""
        project, name = _names(request.path_params)
        return await self._status(project, name, request.query_params)

    async def status_by_query(self, request: Request) -> Response:
        """The same, the names being in the query."""
        project, name = _names(request.query_params)
        try:
            return await self._status(project, name, request.query_params)
        except NotFound:
            tag = text(request.query_params, "tag") or ""
            stored = await self.catalog.functions.get(project, normalised(name), tag=tag)
            if stored is not None:
                _must_not_be_a_build(stored)
            raise

    async def _deploy(
        self, project: str, name: str, body: Mapping[str, Any], who: str
    ) -> tuple[dict[str, Any], FunctionRecord]:
        """The function object with its status, and the record of what was written.

        Raises:
            InvalidFunction: naming what is wrong; nothing was written.
            NotFound: there is no such project.
        """
        function = FunctionObject.read(body.get("function"), project, name)
        function.must_be_deployable()
        await self.directory.require(project)
        async with self.turns.of(project, function.name):
            function, compiled = await self._compiled(function, body.get("builder_env") or {})
            where = deploy_status.addresses(
                function.full_name, str(function.spec.get("service_type") or ""), self.settings
            )
            # Before the deploy: an object that could not be stored must not be running. Without a
            # state, which is looked up when it is read.
            document = function.document | {"status": where}
            key = await self.catalog.functions.store(
                project, function.name, document, tag=function.tag, versioned=(True, False)
            )
            record = await submit.update(
                self.store, function.full_name, compiled.document, compiled.notes, who=who
            )
        status = where | {"state": str(FunctionState.WAITING_FOR_BUILD)}
        metadata = function.metadata | {"hash": key}
        return document | {"metadata": metadata, "status": status}, record

    async def _compiled(
        self, function: FunctionObject, builder_env: Any
    ) -> tuple[FunctionObject, Compiled]:
        if not isinstance(builder_env, dict):
            raise BadRequest(f"builder_env must be a mapping, was {type(builder_env).__name__}")
        record = await self.store.get_function(function.full_name)
        if record is not None and record.project != function.project:
            raise Conflict(
                f"function {record.name} exists already, in project {record.project}: give "
                f"{function.name!r} of project {function.project} another name"
            )
        earlier = [one.document for one in (record.revisions if record else ())]
        function = await self._unmasked(function, earlier)
        function = await asyncio.to_thread(with_local_code, function)
        secrets = await self.catalog.secrets.environment(function.project)
        compiled = await asyncio.to_thread(
            compile_function, function, secrets=secrets, builder_env=builder_env
        )
        if function.is_serving:
            check_graph(function, list(await self.store.list_functions()))
        document = references.resolved(compiled.document, earlier[0] if earlier else None)
        config = FunctionConfig.parse(document)
        capacity = self._capacity()
        await asyncio.to_thread(check_devices, config, capacity)
        return function, Compiled(document, [*compiled.notes, *sharing_note(config, capacity)])

    async def _unmasked(
        self, function: FunctionObject, earlier: list[dict[str, Any]]
    ) -> FunctionObject:
        """Secrets that a listing had masked, as they were stored."""
        stored = await self.catalog.functions.get(function.project, function.name, tag=function.tag)
        return FunctionObject(
            await asyncio.to_thread(
                restored_function, function.document, *([stored] if stored else []), *earlier
            )
        )

    def _capacity(self) -> dict[str, int]:
        devices = self.snapshot().get("devices", {}) if self.snapshot else {}
        return {name: int(device["capacity_bytes"]) for name, device in devices.items()}

    async def _status(self, project: str, name: str, query: QueryParams) -> Response:
        name = full_name(project, normalised(name), text(query, "tag") or "")
        since_ms = _milliseconds(query.get("last_log_timestamp"))
        # A client that follows a deploy asks from 1 on; 0 is only a question about the state.
        follows = since_ms > 0
        record = await (self._news(name, since_ms) if follows else self.store.get_function(name))
        if record is None or record.project != project:
            raise NotFound(f"Function not found: no function {name} is deployed")
        status = deploy_status.status_fields(record, self.settings)
        if follows:
            status["state"] = deploy_status.awaited_state(record)
        entries = deploy_status.entries_since(record, since_ms)
        last_ms = entries[-1].time if entries else since_ms
        return Response(
            deploy_status.log_text(
                record, entries, self.settings, verbose=flag(query.get("verbose"))
            ),
            media_type="text/plain",
            headers=deploy_status.headers(status, last_ms),
        )

    async def _news(self, name: str, since_ms: float) -> FunctionRecord | None:
        """The record once its deployment has ended, or its log has gone on; or after `HOLD_S`."""
        record = await self.store.get_function(name)
        if record is None or deploy_status.has_ended(record):
            return record
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(HOLD_S) as hold,
                aclosing(settle.records(self.store, name)) as changes,
            ):
                async for record in changes:
                    if record is None or deploy_status.has_ended(record):
                        return record
                    if deploy_status.entries_since(record, since_ms):
                        hold.reschedule(min(hold.when() or 0.0, loop.time() + GATHER_S))
        except TimeoutError:
            pass
        return record


def _names(found: Mapping[str, Any]) -> tuple[str, str]:
    project = must_be_segment(str(found.get("project") or ""), "the project")
    return project, must_be_segment(str(found.get("name") or ""), "the function's name")


def _must_not_be_a_build(document: dict[str, Any]) -> None:
    """Of what is run, the path by which older clients deploy builds the image.

    Raises:
        NotSupported: it is of such a kind.
    """
    kind = str(document.get("kind") or "").partition(":")[0]
    if kind in _BUILT_KINDS:
        raise NotSupported(
            f"Stoker builds no images: a function of kind {kind!r} runs where its client is, and "
            "what a function requires is installed when it is deployed"
        )


def _milliseconds(given: str | None) -> float:
    try:
        found = float(given or 0)
    except ValueError as exc:
        raise BadRequest(f"last_log_timestamp must be a number, was {given!r}") from exc
    # What lies in the future, or is no number, would hide every line.
    return found if 0 <= found <= time.time() * 1000 else 0.0
