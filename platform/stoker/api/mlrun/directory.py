"""Which projects there are: those that MLRun's clients saved, and those that Nuclio's know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stoker.api.projects import DEFAULT
from stoker.nouns.errors import NotFound
from stoker.nouns.near import near_names
from stoker.store import Store
from stoker.store.catalog import Catalog
from stoker.store.catalog.document import Document, looked_up, text_at


@dataclass(frozen=True, slots=True)
class Directory:
    """All projects of the home."""

    store: Store
    catalog: Catalog

    async def require(self, name: str) -> None:
        """Makes sure that there is such a project.

        Raises:
            NotFound: there is none; near names are given.
        """
        await self.find(name)

    async def find(self, name: str) -> Document:
        """The project's document; the little that is known of one that only Nuclio's clients know.

        Raises:
            NotFound: there is none; near names are given.
        """
        saved = await self.catalog.projects.find(name)
        if saved is not None:
            return saved
        elsewhere = await self.elsewhere()
        if name in elsewhere:
            return elsewhere[name]
        names = sorted({*elsewhere, *await self.catalog.projects.names()})
        near = near_names(name, names)
        hint = f"; there is {', '.join(near)}" if near else ""
        raise NotFound(f"Project {name} does not exist{hint}", near=near)

    async def matching(
        self, owner: str | None, state: str | None, labels: tuple[str, ...]
    ) -> list[Document]:
        """Those with this owner, in this state, with all these labels, in the order of names."""
        found = await self.catalog.projects.list_all(owner, state, labels)
        if not owner and not labels and state in (None, "online"):
            saved = await self.catalog.projects.names()
            elsewhere = await self.elsewhere()
            found |= {name: elsewhere[name] for name in elsewhere if name not in saved}
        return [found[name] for name in sorted(found)]

    async def elsewhere(self) -> dict[str, Document]:
        """Projects of Nuclio's clients and of functions, and the default one, by name."""
        written = await self.store.list_projects()
        functions = await self.store.list_functions()
        names = {DEFAULT, *written, *(record.project for record in functions.values())}
        return {name: _minimal(name, written.get(name, {})) for name in names}


def completed(document: Document) -> Document:
    """The document with every part that MLRun's clients read without asking whether it is there."""
    metadata = looked_up(document, "metadata") or {}
    spec = looked_up(document, "spec") or {}
    status = looked_up(document, "status") or {}
    state = text_at(spec, "desired_state") or "online"
    return {
        **document,
        "kind": "project",
        "metadata": {"labels": {}, "annotations": {}} | metadata,
        "spec": {"desired_state": state, "functions": [], "workflows": [], "artifacts": []} | spec,
        "status": status | {"state": state},
    }


def _minimal(name: str, written: dict[str, Any]) -> Document:
    description = text_at(written, "spec", "description")
    spec = {"description": description} if description else {}
    return completed({"metadata": {"name": name, "created": None}, "spec": spec})
