"""All tables of the catalog, over one database."""

from __future__ import annotations

from pathlib import Path

from stoker.store.catalog import functions
from stoker.store.catalog.database import Database
from stoker.store.catalog.functions import StoredFunctions


class Catalog:
    """One part an MLRun noun; they share the file, so a write is seen by all at once.

    Attributes:
        functions: function objects by name, tag and hash.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.functions = StoredFunctions(database)

    @classmethod
    async def open(cls, path: Path) -> Catalog:
        """Opens the catalog of a home.

        Raises:
            StoreUnavailable: the file cannot be used.
        """
        return cls(await Database.open(path, [functions.TABLES]))

    async def close(self) -> None:
        """Closes it after all that was asked for."""
        await self._database.close()
