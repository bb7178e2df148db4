"""MLRun's tags: which are in use, and putting them on versions and taking them off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun import names
from stoker.api.mlrun.asked import text
from stoker.api.mlrun.directory import Directory
from stoker.api.reply import Json, json_body
from stoker.nouns.errors import BadRequest, NotFound
from stoker.store.catalog import Catalog
from stoker.store.catalog.artifact_tags import Identifier


@dataclass(frozen=True, slots=True)
class ArtifactTags:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes."""
        project = "/api/v1/projects/{project}"
        one = project + "/tags/{tag}"
        return [
            Route(project + "/artifact-tags", self.list_all, methods=["GET"]),
            Route(one, self.overwrite, methods=["POST"]),
            Route(one, self.append, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """The tags in use in a project."""
        project = request.path_params["project"]
        await self.directory.require(project)
        found = await self.catalog.artifacts.tags(project, text(request.query_params, "category"))
        return Json({"project": project, "tags": found})

    async def overwrite(self, request: Request) -> Response:
        """Puts the tag on versions, in place of all their others."""
        return await self._put(request, replace=True)

    async def append(self, request: Request) -> Response:
        """Puts the tag on versions."""
        return await self._put(request, replace=False)

    async def delete(self, request: Request) -> Response:
        """204; takes the tag off versions."""
        project, tag = request.path_params["project"], request.path_params["tag"]
        meant = _identifiers(await json_body(request))
        await self.directory.require(project)
        await self.catalog.artifacts.untag(project, tag, meant)
        return Response(status_code=204)

    async def _put(self, request: Request, *, replace: bool) -> Response:
        project, tag = request.path_params["project"], request.path_params["tag"]
        names.check("tag", tag, names.TAG)
        meant = _identifiers(await json_body(request))
        await self.directory.require(project)
        await self.catalog.artifacts.tag(project, tag, meant, replace=replace)
        return Json({"name": tag, "project": project})


def _identifiers(body: dict[str, Any]) -> list[Identifier]:
    kind, given = body.get("kind"), body.get("identifiers")
    if kind != "artifact":
        raise NotFound(f"only objects of the kind artifact are tagged here, was {kind!r}")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise BadRequest("identifiers must be a list of objects")
    if not all(any(one.values()) for one in given):
        raise BadRequest("an identifier that says nothing would mean every artifact of the project")
    return [
        Identifier(
            key=one.get("key"),
            kind=one.get("kind"),
            iteration=one.get("iter"),
            uid=one.get("uid"),
            tree=one.get("producer_id"),
        )
        for one in given
    ]
