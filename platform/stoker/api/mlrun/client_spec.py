"""What MLRun's client asks first: the settings of this server, and whether it is well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.dashboard import NUCLIO_VERSION
from stoker.api.reply import Json
from stoker.nouns.home import Home
from stoker.store import Store

MLRUN_VERSION = "1.12.1"
"""The version whose behaviour is spoken. A client of another version says so by itself: one that
is newer, or much older, logs a line when it connects."""
_UNSET = (
    "api_url",
    "docker_registry",
    "mpijob_crd_version",
    "remote_host",
    "spark_app_image",
    "spark_app_image_tag",
    "spark_history_server_path",
    "redis_url",
    "sql_url",
)
"""Strings that MLRun's own server says, too, when it has nothing to say about them."""
_LOGS: dict[str, Any] = {
    # The whole of ``mlconf.httpdb.logs``: a client takes it as it is, and reads every key.
    "decode": {"errors": "replace"},
    "pipelines": {
        "pull_state": {"mode": "disabled", "pull_logs_interval": 30, "pull_state_interval": 5}
    },
    # The status of a deploy is answered when it changes: no client has to wait before asking again.
    "nuclio": {"pull_deploy_status_default_interval": 0},
    # Runs are executed by their client, so a log that is pulled is mostly complete.
    "pull_logs_default_interval": 1,
    "pull_logs_backoff_no_logs_default_interval": 3,
    "pull_logs_default_size_limit": 1024 * 1024,
}


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """The resource."""

    store: Store
    home: Home

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/api/v1/client-spec", self.read, methods=["GET"]),
            Route("/api/v1/healthz", self.health, methods=["GET"]),
            Route("/api/healthz", self.health, methods=["GET"]),
            Route("/projects/{path:path}", self.page, methods=["GET"]),
        ]

    async def read(self, request: Request) -> Response:
        """The settings; what is not said here stays as the client has it."""
        # What is given as None or not at all must not be read as a setting by any client.
        spec = {
            "version": MLRUN_VERSION,
            "nuclio_version": NUCLIO_VERSION,
            # A namespace would mean Kubernetes: runs and workflows would be sent away.
            "namespace": "",
            "kfp_url": "",
            # Clients before 1.10 look into these strings without asking whether they have one.
            **dict.fromkeys(_UNSET, ""),
            "artifact_path": f"{self.home.artifacts}/{{{{project}}}}/{{{{run.uid}}}}",
            "ui_url": f"{request.url.scheme}://{request.url.netloc}",
            "logs": _LOGS,
            "ce": {"mode": "", "release": ""},
            "auto_mount_type": "none",
            "alerts_mode": "disabled",
            "authentication_mode": "none",
            "calculate_artifact_hash": True,
            "telemetry_enabled": False,
        }
        return Json(spec)

    async def health(self, _request: Request) -> Response:
        """Whether requests can be served.

        Raises:
            StoreUnavailable: they cannot.
        """
        await self.store.ping()
        return Json({"status": "ok", "version": MLRUN_VERSION})

    async def page(self, _request: Request) -> Response:
        """Where MLRun's client links to: its own UI is not here, the dashboard is."""
        return Response(status_code=307, headers={"Location": "/"})
