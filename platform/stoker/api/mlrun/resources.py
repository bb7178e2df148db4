"""Which resources make up MLRun's API here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from starlette.routing import Route

from stoker.api.mlrun.absent import Absent
from stoker.api.mlrun.artifact_tags import ArtifactTags
from stoker.api.mlrun.artifacts import Artifacts
from stoker.api.mlrun.client_spec import ClientSpec
from stoker.api.mlrun.deploys import Deploys
from stoker.api.mlrun.directory import Directory
from stoker.api.mlrun.functions import Functions
from stoker.api.mlrun.notifications import Notifier
from stoker.api.mlrun.pipelines import Pipelines
from stoker.api.mlrun.profiles import Profiles
from stoker.api.mlrun.projects import Projects
from stoker.api.mlrun.run_logs import RunLogs
from stoker.api.mlrun.runs import Runs
from stoker.api.mlrun.secrets import Secrets
from stoker.api.mlrun.summaries import Summaries
from stoker.api.mlrun.tasks import Tasks
from stoker.api.mlrun.turns import Turns
from stoker.api.overview import Snapshot
from stoker.api.settings import ApiSettings
from stoker.nouns.home import Home
from stoker.store import Store
from stoker.store.catalog import Catalog


class Resource(Protocol):
    """A group of routes."""

    def routes(self) -> list[Route]:
        """Its routes."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What resources stand on; each takes of it what it needs."""

    store: Store
    catalog: Catalog
    home: Home
    settings: ApiSettings
    directory: Directory
    snapshot: Snapshot | None


def mlrun_resources(
    store: Store,
    catalog: Catalog,
    home: Home,
    settings: ApiSettings,
    snapshot: Snapshot | None = None,
) -> list[Resource]:
    """All of them; the first that has a path answers it, so `Absent` is the last."""
    backing = Backing(store, catalog, home, settings, Directory(store, catalog), snapshot)
    return [*_documents(backing), *_functions(backing), Absent(backing.directory)]


def _documents(backing: Backing) -> list[Resource]:
    catalog, directory = backing.catalog, backing.directory
    return [
        ClientSpec(backing.store, backing.home),
        Projects(backing.store, catalog, directory),
        Summaries(catalog, directory),
        Artifacts(catalog, directory),
        ArtifactTags(catalog, directory),
        Pipelines(catalog, directory, Notifier(catalog)),
        Runs(catalog, directory),
        RunLogs(catalog, directory),
        Secrets(catalog, directory),
        Profiles(catalog, directory),
        Tasks(catalog, directory),
    ]


def _functions(backing: Backing) -> list[Resource]:
    store, catalog, settings = backing.store, backing.catalog, backing.settings
    turns = Turns()
    return [
        Functions(store, catalog, settings, backing.directory, turns),
        Deploys(store, catalog, settings, backing.directory, backing.snapshot, turns),
    ]
