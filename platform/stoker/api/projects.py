"""Nuclio's ``/api/projects``. A project is a name that groups functions, and a document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.reply import Json, flag, json_body
from stoker.api.view import NAMESPACE, exported
from stoker.nouns.errors import BadRequest, Conflict, NotFound, PreconditionFailed
from stoker.store import Store

DEFAULT = "default"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Projects:
    """The resource."""

    store: Store

    def routes(self) -> list[Route]:
        """Its routes."""
        root, one = "/api/projects", "/api/projects/{name}"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root, self.create, methods=["POST"]),
            Route(root, self.update, methods=["PUT"]),
            Route(root, self.delete, methods=["DELETE"]),
            Route(one, self.read, methods=["GET"]),
            Route(one, self.update, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """A map of name to project: those written, the default one, those that functions name."""
        asked = request.headers.get("x-nuclio-project-name")
        found = await self._all()
        return Json({name: found[name] for name in sorted(found) if asked in (None, "", name)})

    async def read(self, request: Request) -> Response:
        """One project; with ``export=true`` its functions too."""
        name = request.path_params["name"]
        document = await self._find(name)
        if not flag(request.query_params.get("export")):
            return Json(document)
        functions = await self.store.list_functions()
        mine = {
            key: exported(record) for key, record in functions.items() if record.project == name
        }
        empty: dict[str, Any] = {}
        return Json(
            {"project": document, "functions": mine, "functionEvents": empty, "apiGateways": empty}
        )

    async def create(self, request: Request) -> Response:
        """201 with the project; 409 when it exists."""
        document = _complete(await json_body(request))
        name = document["metadata"]["name"]
        if await self.store.get_project(name) is not None:
            raise Conflict(f"a project named {name!r} exists already")
        await self.store.put_project(name, document)
        return Json(document, status_code=201)

    async def update(self, request: Request) -> Response:
        """204; the name is in the URL, or in the body of the deprecated form."""
        body = await json_body(request)
        document = _complete(body, request.path_params.get("name", ""))
        name = document["metadata"]["name"]
        await self._find(name)
        await self.store.put_project(name, document)
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        """204; 412 when functions are in it, unless the strategy is ``cascading``."""
        body = await json_body(request) if await request.body() else {}
        metadata = body.get("metadata")
        named = metadata.get("name", "") if isinstance(metadata, dict) else ""
        name = request.path_params.get("name") or named
        if not name:
            raise BadRequest("the project's name must be given in metadata.name")
        await self._find(name)
        functions = await self.store.list_functions()
        mine = [key for key, record in functions.items() if record.project == name]
        strategy = request.headers.get("x-nuclio-delete-project-strategy", "restricted").lower()
        if mine and not strategy.startswith("cascad"):
            raise PreconditionFailed(
                f"project {name!r} has functions: {', '.join(sorted(mine))}", functions=sorted(mine)
            )
        if strategy != "check":
            for function in mine:
                await self.store.delete_function(function)
            await self.store.delete_project(name)
        return Response(status_code=204)

    async def _all(self) -> dict[str, dict[str, Any]]:
        functions = await self.store.list_functions()
        names = {DEFAULT} | {record.project for record in functions.values()}
        written = await self.store.list_projects()
        return {name: _complete({}, name) for name in names} | {
            name: _complete(document, name) for name, document in written.items()
        }

    async def _find(self, name: str) -> dict[str, Any]:
        found = (await self._all()).get(name)
        if found is None:
            raise NotFound(f"there is no project {name!r}")
        return found


def _complete(body: dict[str, Any], name: str = "") -> dict[str, Any]:
    """The project with metadata, spec and status, whatever was left out.

    MLRun's server posts projects without ``spec`` and breaks on reading one back without it.
    """
    metadata = body.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    if name and metadata.get("name", name) != name:
        raise BadRequest(f"metadata.name must be {name!r} as in the URL, was {metadata['name']!r}")
    metadata["name"] = metadata.get("name") or name
    if not isinstance(metadata["name"], str) or not _NAME.fullmatch(metadata["name"]):
        raise BadRequest(
            "metadata.name must be at most 63 of a-z, 0-9 and '-', "
            f"starting and ending with a letter or digit, was {metadata['name']!r}"
        )
    metadata.setdefault("namespace", NAMESPACE)
    spec = body.get("spec") or {}
    return {**body, "metadata": metadata, "spec": spec, "status": body.get("status") or {}}
