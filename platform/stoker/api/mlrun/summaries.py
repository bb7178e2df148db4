"""What is in MLRun's projects, in numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun.asked import text, texts
from stoker.api.mlrun.directory import Directory
from stoker.api.reply import Json
from stoker.store.catalog import Catalog, times

RECENT_S = 24 * 3600
"""How far back "recently" reaches in MLRun's summaries."""


@dataclass(frozen=True, slots=True)
class Summaries:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes."""
        root = "/api/v1/project-summaries"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(root + "/{project}", self.read, methods=["GET"]),
        ]

    async def list_all(self, request: Request) -> Response:
        """All projects, by owner, state and labels."""
        query = request.query_params
        found = await self.directory.matching(
            text(query, "owner"), text(query, "state"), texts(query, "label")
        )
        names = [document["metadata"]["name"] for document in found]
        return Json({"project_summaries": [await self._summary(name) for name in names]})

    async def read(self, request: Request) -> Response:
        """One project."""
        name = request.path_params["project"]
        await self.directory.require(name)
        return Json(await self._summary(name))

    async def _summary(self, project: str) -> dict[str, Any]:
        counts = await self.catalog.summary(project, time.time() - RECENT_S)
        return {"name": project, "updated": times.now().isoformat(), **counts}
