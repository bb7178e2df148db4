"""What MLRun's API has and Stoker has not: refused by name, never answered by accident."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun.directory import Directory
from stoker.api.reply import Json, json_body
from stoker.nouns.errors import BadRequest, NotSubmitted, NotSupported

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_JOB = "running a function as a Kubernetes job: run it with local=True"
_SCHEDULE = (
    "schedules of jobs: deploy a function with a cron trigger, or have the system's cron run the "
    "job with local=True"
)
_WHAT = {
    r"(submit_job|submit)": _JOB,
    r"build/.*": "building images: requirements of a function are installed when it is deployed",
    r"start/function|status/function": "Dask clusters",
    r"projects/[^/]+/schedules.*": "schedules of jobs: a function can have a cron trigger",
    r"projects/[^/]+/(feature-sets|feature-vectors|features|entities).*": "the feature store",
    r"projects/[^/]+/model-endpoints.*": "model endpoints: deploy without tracking",
    r"projects/[^/]+/model-monitoring.*": "model monitoring",
    r"projects/[^/]+/(alerts|alert-activations|alert-templates|events).*": "alerts",
    r"alert-templates.*": "alerts",
    r"projects/[^/]+/api-gateways.*": "Nuclio's API gateways: functions have URLs of their own",
    r"projects/[^/]+/pipelines.*": "Kubeflow pipelines: run the workflow with the local engine",
    r"projects/[^/]+/workflows.*": "workflows on a server: run them with the local engine",
    r"projects/[^/]+/load": "loading a project on a server: use mlrun.load_project",
    r"projects/[^/]+/runs/[^/]+/notifications": "notifications that a server sends for a run",
    r"(projects/[^/]+/)?runtime-resources.*": "Kubernetes resources of jobs",
    r"hub/.*": "the function hub",
    r"user-secrets.*": "secrets of users: use those of a project",
    r"(authorization|auth)/.*": "authorization by resource: the control port has a key",
    r"operations/.*": "operations of MLRun's own database",
    r"(projects/[^/]+/)?(files|filestat).*": "files over the API: artifacts lie on this machine",
    r"(frontend-spec|clusterization-spec|memory-reports|grafana-proxy).*": "MLRun's own interior",
    r"artifacts?(/.*)?|projects/[^/]+/artifacts?/.+": "artifacts as MLRun before 1.5 stored them: "
    "use a newer client",
}
"""What a path is about, for those whom the refusal meets."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Every path of MLRun's API that no other resource took. Must be registered last.

    What can only ever be listed as empty is listed so where MLRun's own flows ask for it.
    """

    directory: Directory

    def routes(self) -> list[Route]:
        """The empty lists, and one pattern a version of the API."""
        project = "/api/v1/projects/{project}"
        return [
            Route(project + "/model-endpoints", self.no_endpoints, methods=["GET"]),
            Route("/api/v1/projects//model-endpoints", self.no_endpoints, methods=["GET"]),
            Route(project + "/schedules", self.no_schedules, methods=["GET"]),
            Route("/api/v1/submit_job", self.no_jobs, methods=["POST"]),
            Route("/api/v1/submit", self.no_jobs, methods=["POST"]),
            Route("/api/v1/{path:path}", self.refuse, methods=_METHODS),
            Route("/api/v2/{path:path}", self.refuse, methods=_METHODS),
        ]

    async def no_endpoints(self, request: Request) -> Response:
        """None are made here; a model router asks when it finds no task that makes them.

        One that a newer MLRun server compiled does not know its project.
        """
        if "project" in request.path_params:
            await self.directory.require(request.path_params["project"])
        return Json({"endpoints": []})

    async def no_schedules(self, request: Request) -> Response:
        """None are made here."""
        await self.directory.require(request.path_params["project"])
        return Json({"schedules": []})

    async def no_jobs(self, request: Request) -> Response:
        """Always a refusal.

        Raises:
            NotSubmitted: naming what was asked, and what to do in its place.
        """
        asked = f"{request.method} {request.url.path}"
        what = _SCHEDULE if (await json_body(request)).get("schedule") else _JOB
        raise NotSubmitted(f"Stoker does not serve {asked} of MLRun's API: {what}")

    async def refuse(self, request: Request) -> Response:
        """Always a refusal.

        Raises:
            BadRequest: the client knows no project, and wrote none into the path.
            NotSupported: naming what was asked, and what it is where that is known.
        """
        asked, path = f"{request.method} {request.url.path}", request.path_params["path"]
        if path.startswith("projects//"):
            raise BadRequest(
                f"{asked} names no project: call mlrun.get_or_create_project(…) before, or give "
                "project=…"
            )
        found = (what for pattern, what in _WHAT.items() if re.fullmatch(pattern, path))
        what = next(found, "")
        raise NotSupported(
            f"Stoker does not serve {asked} of MLRun's API" + (f": {what}" if what else "")
        )
