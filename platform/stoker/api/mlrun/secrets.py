"""Secrets of MLRun's projects: written by clients, read by functions only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.mlrun import names
from stoker.api.mlrun.asked import text, texts
from stoker.api.mlrun.directory import Directory
from stoker.api.reply import Json, json_body
from stoker.nouns.errors import BadRequest, Forbidden
from stoker.store.catalog import Catalog
from stoker.store.catalog.secrets import INTERNAL

KUBERNETES = "kubernetes"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The resource."""

    catalog: Catalog
    directory: Directory

    def routes(self) -> list[Route]:
        """Its routes."""
        root = "/api/v1/projects/{project}/secrets"
        return [
            Route(root, self.write, methods=["POST"]),
            Route(root, self.read, methods=["GET"]),
            Route(root, self.delete, methods=["DELETE"]),
            Route("/api/v1/projects/{project}/secret-keys", self.keys, methods=["GET"]),
        ]

    async def write(self, request: Request) -> Response:
        """201; adds secrets or gives them other values."""
        project, body = request.path_params["project"], await json_body(request)
        _check_provider(body.get("provider"))
        secrets = _checked(body.get("secrets") or {})
        await self.directory.require(project)
        await self.catalog.secrets.write(project, secrets)
        return Response(status_code=201)

    async def read(self, request: Request) -> Response:
        """Always a refusal: values are for functions.

        Raises:
            Forbidden: as MLRun's own server does.
        """
        _check_provider(text(request.query_params, "provider"))
        raise Forbidden("Not allowed to list secrets data from kubernetes provider")

    async def keys(self, request: Request) -> Response:
        """The names of the secrets."""
        project = request.path_params["project"]
        _check_provider(text(request.query_params, "provider"))
        await self.directory.require(project)
        found = await self.catalog.secrets.keys(project)
        return Json({"provider": KUBERNETES, "secret_keys": found})

    async def delete(self, request: Request) -> Response:
        """204; forgets those that are named, or all."""
        project, keys = request.path_params["project"], texts(request.query_params, "secret")
        _check_provider(text(request.query_params, "provider"))
        for key in keys:
            _check_own(key)
        await self.directory.require(project)
        await self.catalog.secrets.delete(project, keys)
        return Response(status_code=204)


def _check_provider(provider: Any) -> None:
    if provider not in (None, KUBERNETES):
        raise BadRequest(f"Provider requested is not supported. provider = {provider}")


def _checked(secrets: Any) -> dict[str, str]:
    if not isinstance(secrets, dict):
        raise BadRequest("secrets must be an object of keys and values")
    for key in secrets:
        names.check("secret.key", key, names.SECRET_KEY)
        _check_own(key)
    return {key: "" if value is None else str(value) for key, value in secrets.items()}


def _check_own(key: str) -> None:
    if key.startswith(INTERNAL):
        raise Forbidden(
            "Not allowed to create/update internal secrets "
            f"(key starts with {' or '.join(INTERNAL)})"
        )
