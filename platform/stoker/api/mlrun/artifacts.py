"""MLRun's artifacts and models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun import artifact_files, names
from stoker.api.mlrun.asked import choice, moment, number, text, texts
from stoker.api.mlrun.directory import Directory
from stoker.api.mlrun.pages import Paging
from stoker.api.reply import Json, flag, json_body
from stoker.nouns.errors import BadRequest
from stoker.store.catalog import Catalog
from stoker.store.catalog.artifact_search import ArtifactSearch, Partition
from stoker.store.catalog.artifacts import Version
from stoker.store.catalog.conditions import Page
from stoker.store.catalog.document import Document, looked_up, number_at, text_at

FORMATS = ("full", "minimal")
_MINIMAL = {
    "kind": None,
    "metadata": None,
    "project": None,
    "status": ("state",),
    "spec": (
        *("producer", "db_key", "size", "framework", "algorithm", "metrics"),
        *("target_path", "parent_uri", "has_children"),
    ),
}
"""What MLRun's minimal format keeps: whole parts, or only these of a part."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes."""
        root = "/api/v2/projects/{project}/artifacts"
        one = root + "/{key:path}"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root, self.create, methods=["POST"]),
            Route(root, self.delete_all, methods=["DELETE"]),
            Route(one, self.read, methods=["GET"]),
            Route(one, self.store, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """201 with the artifact; 409 when this version is there."""
        project, document = request.path_params["project"], await json_body(request)
        key = text_at(document, "metadata", "key")
        version = Version(
            key,
            tag=text_at(document, "metadata", "tag") or None,
            tree=text_at(document, "metadata", "tree") or None,
            iteration=number_at(document, "metadata", "iter"),
        )
        await self._check(project, version, document)
        stored = await self.catalog.artifacts.store(project, version, document, new=True)
        return Json(stored, status_code=201)

    async def store(self, request: Request) -> Response:
        """The artifact as it is kept: with its uid, its times and its tag."""
        project, document = request.path_params["project"], await json_body(request)
        version = _version(request)
        if version.iteration is None:
            version = replace(version, iteration=number_at(document, "metadata", "iter"))
        await self._check(project, version, document)
        return Json(await self.catalog.artifacts.store(project, version, document))

    async def read(self, request: Request) -> Response:
        """One version."""
        wanted = choice(request.query_params, "format", FORMATS)
        project = request.path_params["project"]
        await self.directory.require(project)
        found = await self.catalog.artifacts.find(project, _version(request))
        return Json(_shown(found, wanted))

    async def list_all(self, request: Request) -> Response:
        """What matches the conditions, newest first, in pages if asked for."""
        project = request.path_params["project"]
        await self.directory.require(project)
        paging = Paging.of(request.query_params)
        wanted = choice(paging.query, "format", FORMATS)
        limit = number(paging.query, "limit", 1)
        rows = paging.rows if paging.size or limit is None else Page(limit)
        found = await self.catalog.artifacts.list_all(_search(project, paging.query), rows)
        return Json(paging.reply("artifacts", [_shown(document, wanted) for document in found]))

    async def delete(self, request: Request) -> Response:
        """204; with a data strategy the file is deleted first."""
        project, version = request.path_params["project"], _version(request)
        await self.directory.require(project)
        strategy = choice(request.query_params, "deletion_strategy", artifact_files.STRATEGIES)
        if strategy != artifact_files.METADATA_ONLY:
            await artifact_files.delete(self.catalog, project, version, strategy)
        await self.catalog.artifacts.delete(project, version)
        return Response(status_code=204)

    async def delete_all(self, request: Request) -> Response:
        """204; deletes what matches the conditions."""
        project = request.path_params["project"]
        await self.directory.require(project)
        await self.catalog.artifacts.delete_all(_search(project, request.query_params))
        return Response(status_code=204)

    async def _check(self, project: str, version: Version, document: Document) -> None:
        claimed = text_at(document, "metadata", "project") or project
        if claimed != project:
            raise BadRequest(
                f"Conflicting project name - storing artifact with project {claimed}"
                f" into a different project: {project}."
            )
        names.check("artifact.key", version.key, names.ARTIFACT_KEY)
        names.check("artifact.metadata.tag", version.tag or "", names.TAG)
        db_key = text_at(document, "spec", "db_key")
        if db_key:
            names.check("artifact.db_key", db_key, names.ARTIFACT_KEY)
        await self.directory.require(project)


def _version(request: Request) -> Version:
    query = request.query_params
    return Version(
        request.path_params["key"],
        tag=text(query, "tag"),
        tree=text(query, "tree"),
        uid=text(query, "object-uid") or text(query, "uid"),
        iteration=number(query, "iter"),
    )


def _search(project: str, query: QueryParams) -> ArtifactSearch:
    return ArtifactSearch(
        project=project,
        name=text(query, "name"),
        tag=text(query, "tag"),
        labels=texts(query, "label"),
        since=moment(query, "since"),
        until=moment(query, "until"),
        kind=text(query, "kind"),
        category=text(query, "category"),
        iteration=number(query, "iter"),
        best_iteration=flag(query.get("best-iteration")),
        tree=text(query, "tree"),
        producer_uri=text(query, "producer_uri"),
        parent=text(query, "parent"),
        partition=_partition(query),
    )


def _partition(query: QueryParams) -> Partition | None:
    if not text(query, "partition-by"):
        return None
    choice(query, "partition-by", ("name", "project_and_name"))
    return Partition(
        rows=number(query, "rows-per-partition", 1) or 1,
        sort=choice(query, "partition-sort-by", ("updated", "created")),
        descending=choice(query, "partition-order", ("desc", "asc")) == "desc",
    )


def _shown(document: Document, wanted: str) -> Document:
    if wanted == "full":
        return document
    shown: Document = {}
    for name, fields in _MINIMAL.items():
        found = looked_up(document, name)
        if fields is not None and isinstance(found, dict):
            found = {field: found[field] for field in fields if field in found}
        if name in document:
            shown[name] = found
    return shown
