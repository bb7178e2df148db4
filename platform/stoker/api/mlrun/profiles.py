"""MLRun's datastore profiles."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun.directory import Directory
from stoker.api.reply import Json, json_body
from stoker.nouns.errors import BadRequest
from stoker.store.catalog import Catalog
from stoker.store.catalog.document import text_at


@dataclass(frozen=True, slots=True)
class Profiles:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes."""
        root = "/api/v1/projects/{project}/datastore-profiles"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root, self.store, methods=["PUT"]),
            Route(root + "/{name}", self.read, methods=["GET"]),
            Route(root + "/{name}", self.delete, methods=["DELETE"]),
        ]

    async def store(self, request: Request) -> Response:
        """The public part, as it is kept; the private part becomes a secret."""
        project, body = request.path_params["project"], await json_body(request)
        if body.get("project", project) != project:
            raise BadRequest(
                "The project name provided in the URI does not match the one specified in the "
                "DatastoreProfile"
            )
        name, kind, public = (text_at(body, field) for field in ("name", "type", "object"))
        if not name or not kind or not public:
            raise BadRequest("a datastore profile must have a name, a type and an object")
        await self.directory.require(project)
        private = text_at(body, "private") or None
        await self.catalog.profiles.store(project, name, kind, public, private)
        return Json(await self.catalog.profiles.find(project, name))

    async def list_all(self, request: Request) -> Response:
        """The public parts."""
        project = request.path_params["project"]
        await self.directory.require(project)
        return Json(await self.catalog.profiles.list_all(project))

    async def read(self, request: Request) -> Response:
        """The public part of one."""
        project = request.path_params["project"]
        await self.directory.require(project)
        return Json(await self.catalog.profiles.find(project, request.path_params["name"]))

    async def delete(self, request: Request) -> Response:
        """Forgets one with its secret."""
        project, name = request.path_params["project"], request.path_params["name"]
        await self.directory.require(project)
        await self.catalog.profiles.find(project, name)
        await self.catalog.profiles.delete(project, name)
        return Response(status_code=204)
