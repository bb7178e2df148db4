"""MLRun's projects: save, read, list, delete, summaries."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun import names
from stoker.api.mlrun.asked import choice, text, texts
from stoker.api.mlrun.directory import Directory, completed
from stoker.api.reply import Json, json_body
from stoker.nouns.errors import BadRequest, NotFound, PreconditionFailed
from stoker.store import Store
from stoker.store.catalog import Catalog, times
from stoker.store.catalog.document import Document, looked_up, part, text_at

FORMATS = ("full", "name_only", "minimal", "name_and_creation_time")
RESTRICT = frozenset({"restrict", "restricted"})
CASCADE = frozenset({"cascade", "cascading"})
_LARGE = ("functions", "workflows", "artifacts")


@dataclass(frozen=True, slots=True)
class Projects:
    """The resource."""

    store: Store
    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes."""
        root, one = "/api/v1/projects", "/api/v1/projects/{project}"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root, self.create, methods=["POST"]),
            Route(one, self.read, methods=["GET"]),
            Route(one, self.save, methods=["PUT"]),
            Route(one, self.patch, methods=["PATCH"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route("/api/v2/projects/{project}", self.delete, methods=["DELETE"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """Names or documents, by owner, state and labels."""
        query = request.query_params
        wanted = choice(query, "format", FORMATS)
        found = await self.directory.matching(
            text(query, "owner"), text(query, "state"), texts(query, "label")
        )
        return Json({"projects": [_shown(document, wanted) for document in found]})

    async def read(self, request: Request) -> Response:
        """One project."""
        document = await self.directory.find(request.path_params["project"])
        return Json(_shown(document, choice(request.query_params, "format", FORMATS)))

    async def create(self, request: Request) -> Response:
        """201 with the project; 409 when it exists."""
        document = await json_body(request)
        name = _checked(document)
        document = _dated(name, document, None)
        await self.catalog.projects.create(name, document)
        await self._tell_nuclio(document)
        return Json(document, status_code=201)

    async def save(self, request: Request) -> Response:
        """The project as it is kept; what was there is replaced."""
        document = await json_body(request)
        name = _checked(document, request.path_params["project"])
        saved = await self.catalog.projects.change(
            name, lambda earlier: _dated(name, document, earlier)
        )
        await self._tell_nuclio(saved)
        return Json(saved)

    async def patch(self, request: Request) -> Response:
        """Changes parts; lists are replaced, or with the mode ``additive`` made longer."""
        changes, name = await json_body(request), request.path_params["project"]
        additive = request.headers.get("x-mlrun-patch-mode", "replace").lower() == "additive"
        known = await self.directory.find(name)

        def change(earlier: Document | None) -> Document:
            merged = _merged(earlier or known, changes, additive=additive)
            _checked(merged, name)
            return _dated(name, merged, earlier or known)

        saved = await self.catalog.projects.change(name, change)
        await self._tell_nuclio(saved)
        return Json(saved)

    async def delete(self, request: Request) -> Response:
        """204 once it is gone; 412 when something is in it, unless the strategy is to cascade."""
        name = request.path_params["project"]
        strategy = request.headers.get("x-mlrun-deletion-strategy", "restrict").lower()
        if strategy not in RESTRICT | CASCADE | {"check"}:
            raise BadRequest(
                f"x-mlrun-deletion-strategy must be restrict, cascade or check, was {strategy!r}"
            )
        try:
            await self.directory.require(name)
        except NotFound:
            return Response(status_code=204)
        deployed = await self._deployed(name)
        if strategy not in CASCADE:
            await self._refuse_holdings(name, deployed)
        if strategy != "check":
            # What acts first: a deletion that is cut off leaves the project to be deleted again.
            for function in deployed:
                await self.store.delete_function(function)
            await self.catalog.forget(name)
            await self.store.delete_project(name)
        return Response(status_code=204)

    async def _deployed(self, project: str) -> list[str]:
        functions = await self.store.list_functions()
        return [name for name, record in functions.items() if record.project == project]

    async def _refuse_holdings(self, project: str, deployed: list[str]) -> None:
        holdings = await self.catalog.holdings(project)
        holdings["functions"] = max(holdings["functions"], len(deployed))
        found = {noun: number for noun, number in holdings.items() if number}
        if found:
            listed = ", ".join(f"{noun} ({number})" for noun, number in found.items())
            raise PreconditionFailed(
                f"Project {project} can not be deleted since related resources found: {listed}",
                resources=found,
            )

    async def _tell_nuclio(self, document: Document) -> None:
        name = document["metadata"]["name"]
        description = looked_up(document, "spec", "description")
        spec = {"description": description} if description else {}
        written = await self.store.get_project(name) or {"metadata": {"name": name}}
        if written.get("spec") != spec:
            await self.store.put_project(name, written | {"spec": spec})


def _checked(document: Document, name: str = "") -> str:
    for field in ("metadata", "spec", "status"):
        if not isinstance(document.get(field), (dict, NoneType)):
            raise BadRequest(
                f"project.{field} must be an object, was {type(document[field]).__name__}"
            )
    given = looked_up(document, "metadata", "name")
    if name and given not in (None, name):
        raise BadRequest(f"Conflict between name in body and name in path: {given} is not {name}")
    return names.check("project.metadata.name", given or name, names.PROJECT)


def _dated(name: str, document: Document, earlier: Document | None) -> Document:
    """As it is kept: with the name of its path, by which every listing shows it."""
    document = completed(document)
    created = text_at(earlier, "metadata", "created") or times.now().isoformat()
    part(document, "metadata").update(name=name, created=created)
    return document


def _merged(base: Any, changes: Any, *, additive: bool) -> Any:
    if isinstance(base, dict) and isinstance(changes, dict):
        merged = {
            key: _merged(base[key], value, additive=additive) if key in base else value
            for key, value in changes.items()
        }
        return base | merged
    if additive and isinstance(base, list) and isinstance(changes, list):
        return base + changes
    return changes


def _shown(document: Document, wanted: str) -> Any:
    if wanted == "name_only":
        return document["metadata"]["name"]
    if wanted == "name_and_creation_time":
        return [document["metadata"]["name"], looked_up(document, "metadata", "created")]
    if wanted == "minimal":
        return document | {"spec": document["spec"] | dict.fromkeys(_LARGE)}
    return document
