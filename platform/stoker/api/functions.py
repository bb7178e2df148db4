"""Nuclio's ``/api/functions``: list, read, deploy, scale, delete, replicas, logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.api import settle, submit
from stoker.api.function_logs import LogQuery, replica_files, stream
from stoker.api.reply import Json, flag, json_body
from stoker.api.settings import ApiSettings
from stoker.api.view import KnownSecrets, exported, function_document, namespace_of
from stoker.api.who import who_of
from stoker.nouns.errors import BadRequest
from stoker.nouns.function import PROJECT_LABEL
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, FunctionState
from stoker.store import Store

WAIT_HEADER = "x-nuclio-wait-function-action"


@dataclass(frozen=True, slots=True)
class Functions:
    """The resource."""

    store: Store
    home: Home
    settings: ApiSettings

    def routes(self) -> list[Route]:
        """Its routes; a trailing slash has been taken off before."""
        root, one = "/api/functions", "/api/functions/{name}"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root, self.create, methods=["POST"]),
            Route(root, self.delete_by_body, methods=["DELETE"]),
            Route(one, self.read, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.patch, methods=["PATCH"]),
            Route(one, self.delete_by_name, methods=["DELETE"]),
            Route(one + "/replicas", self.replicas, methods=["GET"]),
            Route(one + "/logs/{replica}", self.logs, methods=["GET"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """A map of name to function, filtered by headers."""
        found = await self.store.list_functions()
        export = flag(request.query_params.get("export"))
        return Json(
            {
                name: exported(record) if export else function_document(record, self.settings)
                for name, record in sorted(found.items())
                if _is_asked_for(record, request)
            }
        )

    async def read(self, request: Request) -> Response:
        """One function."""
        record = await submit.find(self.store, request.path_params["name"])
        if flag(request.query_params.get("export")):
            return Json(exported(record))
        return Json(function_document(record, self.settings))

    async def create(self, request: Request) -> Response:
        """Deploys a new function: 202 once it is written."""
        project = request.headers.get("x-nuclio-project-name", "")
        document = submit.prepared(await json_body(request), project=project)
        record = await submit.create(self.store, document, who=who_of(request))
        return await self._accepted(request, record)

    async def update(self, request: Request) -> Response:
        """Deploys the next revision."""
        name = request.path_params["name"]
        project = request.headers.get("x-nuclio-project-name", "")
        if not project:
            earlier = await self.store.get_function(name)
            project = _label(earlier)
        document = submit.prepared(await json_body(request), name=name, project=project)
        record = await submit.update(self.store, name, document, who=who_of(request))
        return await self._accepted(request, record)

    async def patch(self, request: Request) -> Response:
        """Scales to zero or wakes."""
        name = request.path_params["name"]
        state = str((await json_body(request)).get("desiredState"))
        asked = await submit.desire(self.store, name, state)
        if flag(request.headers.get(WAIT_HEADER)):
            await settle.wait_scaled(self.store, FunctionState(state), asked)
        return Response(status_code=202)

    async def delete_by_body(self, request: Request) -> Response:
        """Deletes the function named in the body; what does not exist is deleted already."""
        metadata = (await json_body(request)).get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str) or not name:
            raise BadRequest("the function's name must be given in metadata.name")
        await self.store.delete_function(name)
        return Response(status_code=204)

    async def delete_by_name(self, request: Request) -> Response:
        """Deletes a function that must exist."""
        name = request.path_params["name"]
        await submit.find(self.store, name)
        await self.store.delete_function(name)
        return Response(status_code=204)

    async def replicas(self, request: Request) -> Response:
        """The names of its replicas."""
        name = request.path_params["name"]
        await submit.find(self.store, name)
        return Json({"names": await self._replica_names(name)})

    async def logs(self, request: Request) -> Response:
        """One replica's log as text, followed unless ``follow=false``."""
        name, replica = request.path_params["name"], request.path_params["replica"]
        record = await submit.find(self.store, name)
        query = LogQuery.of(request.query_params, follow=True)
        known = set(await self._replica_names(name)) | set(replica_files(self.home, name))
        if replica not in known:
            raise BadRequest(f"replica {replica!r} does not belong to function {name!r}")
        secrets = KnownSecrets(self.store, record, self.settings)
        lines = stream(self.home, name, query, secrets, replica=replica)
        return StreamingResponse(
            lines, media_type="text/plain", headers={"Cache-Control": "no-cache, private"}
        )

    async def _accepted(self, request: Request, record: FunctionRecord) -> Response:
        number = record.last_revision
        if flag(request.headers.get(WAIT_HEADER)):
            settled = settle.deployed(number)
            await settle.wait(self.store, record.name, settled, settle.DEPLOY_WAIT_S)
        return Response(status_code=202, headers={"X-Stoker-Revision": str(number)})

    async def _replica_names(self, name: str) -> list[str]:
        replicas = await self.store.list_replicas()
        return sorted(replica.id for replica in replicas.values() if replica.function == name)


def _is_asked_for(record: FunctionRecord, request: Request) -> bool:
    wanted: dict[str, Any] = {
        "x-nuclio-project-name": record.project,
        "x-nuclio-function-name": record.name,
        "x-nuclio-function-namespace": namespace_of(record),
    }
    return all(request.headers.get(key) in (None, "", "*", value) for key, value in wanted.items())


def _label(record: FunctionRecord | None) -> str:
    """The project label in force, which a redeploy without one keeps."""
    if record is None:
        return ""
    labels = record.current.document.get("metadata", {}).get("labels") or {}
    return str(labels.get(PROJECT_LABEL, ""))
