"""MLRun's function objects: each version by its hash, each tag pointing at one version."""

from __future__ import annotations

from stoker.store.catalog.database import Database

TABLES = ""


class StoredFunctions:
    """Function objects of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database
