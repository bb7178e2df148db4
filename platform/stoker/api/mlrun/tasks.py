"""MLRun's background tasks."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun.asked import span, text
from stoker.api.mlrun.directory import Directory
from stoker.api.reply import Json
from stoker.store.catalog import Catalog, times
from stoker.store.catalog.document import Document
from stoker.store.catalog.tasks import SUCCEEDED, TaskSearch

NO_TASK = "None"
"""What a model router without tracking asks about on its first request: it was given no task, and
writes that into the path, after an empty project when a newer MLRun server compiled it. There is
nothing to wait for."""


@dataclass(frozen=True, slots=True)
class Tasks:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes."""
        root = "/api/v1/projects/{project}/background-tasks"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root + "/{name}", self.read, methods=["GET"]),
            Route("/api/v1/background-tasks/{name}", self.read, methods=["GET"]),
            Route("/api/v1/projects//background-tasks/{name}", self.read, methods=["GET"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """A project's tasks, by state and times."""
        project, query = request.path_params["project"], request.query_params
        await self.directory.require(project)
        search = TaskSearch(
            project=project,
            state=text(query, "state"),
            created=span(query, "created"),
            updated=span(query, "last_update_time"),
        )
        return Json({"background_tasks": await self.catalog.tasks.list_all(search)})

    async def read(self, request: Request) -> Response:
        """One task."""
        project, name = request.path_params.get("project", ""), request.path_params["name"]
        if name == NO_TASK:
            return Json(_nothing_to_wait_for(project))
        return Json(await self.catalog.tasks.find(project, name))


def _nothing_to_wait_for(project: str) -> Document:
    moment = times.now().isoformat()
    return {
        "kind": "BackgroundTask",
        "metadata": {"name": NO_TASK, "project": project, "created": moment, "updated": moment},
        "spec": {},
        "status": {"state": SUCCEEDED, "error": None},
    }
