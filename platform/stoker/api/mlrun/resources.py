"""Which resources make up MLRun's API here."""

from __future__ import annotations

from typing import Protocol

from starlette.routing import Route

from stoker.api.settings import ApiSettings
from stoker.nouns.home import Home
from stoker.store import Store
from stoker.store.catalog import Catalog


class Resource(Protocol):
    """A group of routes."""

    def routes(self) -> list[Route]:
        """Its routes."""


def mlrun_resources(
    store: Store,
    catalog: Catalog,
    home: Home,
    settings: ApiSettings,  # noqa: ARG001
) -> list[Resource]:
    """All of them, most specific first."""
    return []
