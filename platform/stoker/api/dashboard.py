"""The small rest of Nuclio's dashboard API: what clients ask, and what only a cluster has."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.reply import Json
from stoker.api.settings import ApiSettings
from stoker.api.view import NAMESPACE
from stoker.nouns.errors import NotFound, NotSupported

NUCLIO_VERSION = "1.15.3"
"""The version whose behaviour is spoken: clients refuse batching and async triggers below it."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The resources."""

    settings: ApiSettings

    def routes(self) -> list[Route]:
        """Their routes."""
        routes = [
            Route("/api/versions", self.versions, methods=["GET"]),
            Route("/api/external_ip_addresses", self.external_addresses, methods=["GET"]),
            Route("/api/namespaces", self.namespaces, methods=["GET"]),
            Route("/api/frontend_spec", self.frontend_spec, methods=["GET"]),
        ]
        for kind in ("api_gateways", "function_templates", "function_events"):
            root = f"/api/{kind}"
            routes += [
                Route(root, self.none, methods=["GET"]),
                Route(root, self.not_supported, methods=["POST", "PUT", "DELETE"]),
                Route(root + "/{name}", self.missing, methods=["GET"]),
                Route(root + "/{name}", self.not_supported, methods=["PUT", "DELETE"]),
            ]
        return routes

    async def versions(self, _request: Request) -> Response:
        """The version of the protocol."""
        label = {
            "label": NUCLIO_VERSION,
            "gitCommit": "",
            "os": platform.system().lower(),
            "arch": platform.machine(),
        }
        return Json({"dashboard": label, "stoker": {"label": self.settings.version}})

    async def external_addresses(self, _request: Request) -> Response:
        """Where the data port is reached."""
        return Json({"externalIPAddresses": {"addresses": [self.settings.gateway_host]}})

    async def namespaces(self, _request: Request) -> Response:
        """The only one."""
        return Json({"namespaces": {"names": [NAMESPACE]}})

    async def frontend_spec(self, _request: Request) -> Response:
        """What a dashboard needs to draw forms."""
        defaults: dict[str, Any] = {
            "attributes": {"spec": {"minReplicas": 0, "maxReplicas": 1, "runtime": "python"}}
        }
        return Json(
            {
                "externalIPAddresses": [self.settings.gateway_host],
                "namespace": NAMESPACE,
                "defaultHTTPIngressHostTemplate": "",
                "defaultFunctionConfig": defaults,
                "platformKind": "local",
                "allowedAuthenticationModes": [],
                "validFunctionPriorityClassNames": [],
            }
        )

    async def none(self, _request: Request) -> Response:
        """An empty map."""
        return Json({})

    async def missing(self, request: Request) -> Response:
        """There are none of these."""
        raise NotFound(f"there is nothing at {request.url.path}")

    async def not_supported(self, request: Request) -> Response:
        """Kinds of thing that exist on a Kubernetes cluster only."""
        raise NotSupported(f"{request.method} {request.url.path} is not supported by Stoker")
