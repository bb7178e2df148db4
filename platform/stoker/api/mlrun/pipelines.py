"""MLRun's pipelines: there is no Kubeflow here, so workflows run where they are started.

What such a workflow asks of a server is to send its notifications.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun.directory import Directory
from stoker.api.mlrun.notifications import Notifier
from stoker.api.reply import Json
from stoker.nouns.errors import BadRequest, NotFound
from stoker.store.catalog import Catalog
from stoker.store.catalog.document import looked_up

KIND = "notifications.push"


@dataclass(frozen=True, slots=True)
class Pipelines:
    """The resource."""

    catalog: Catalog
    directory: Directory
    notifier: Notifier

    def routes(self) -> list[Route]:
        """Its routes."""
        root = "/api/v1/projects/{project}/pipelines"
        runs = "/api/v1/projects/{project}/runs/{uid}"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root + "/{pipeline}", self.read, methods=["GET"]),
            Route(root + "/{pipeline}/push-notifications", self.push, methods=["POST"]),
            Route(runs + "/push-notifications", self.push_for_run, methods=["POST"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """None: a workflow that was run here is found by its runs' label ``workflow``."""
        if (project := request.path_params["project"]) != "*":
            await self.directory.require(project)
        return Json({"runs": [], "total_size": 0, "next_page_token": None})

    async def read(self, request: Request) -> Response:
        """Always 404, for the same reason.

        Raises:
            NotFound: there is no pipeline.
        """
        name = request.path_params["pipeline"]
        raise NotFound(
            f"Pipeline {name} not found: workflows run in their client's process here; the runs of "
            f"one are listed by the label workflow={name}"
        )

    async def push(self, request: Request) -> Response:
        """202 with a task that sends the notifications of the body."""
        project = request.path_params["project"]
        notifications = _list(await request.body())
        await self.directory.require(project)
        return await self._send(project, request.path_params["pipeline"], notifications)

    async def push_for_run(self, request: Request) -> Response:
        """202 with a task that sends the notifications of a run."""
        project, uid = request.path_params["project"], request.path_params["uid"]
        await self.directory.require(project)
        run = await self.catalog.runs.find(project, uid, 0)
        notifications = looked_up(run, "spec", "notifications") or []
        state = looked_up(run, "status", "state")
        due = [one for one in notifications if state in (looked_up(one, "when") or [])]
        return await self._send(project, "", due)

    async def _send(self, project: str, workflow: str, notifications: list[Any]) -> Response:
        task = await self.catalog.tasks.begin(project, KIND)
        task = await self.notifier.send(project, workflow, notifications, task)
        return Json(task, status_code=202)


def _list(body: bytes) -> list[Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body must be JSON: {exc}") from exc
    if not isinstance(found, list):
        raise BadRequest(f"the body must be a list of notifications, was {type(found).__name__}")
    return found
