"""The files of artifacts, when an artifact is deleted together with its data."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stoker.nouns.errors import NotFound, NotSupported, StokerError
from stoker.store.catalog import Catalog
from stoker.store.catalog.artifacts import Version
from stoker.store.catalog.document import Document, text_at

METADATA_ONLY, DATA_OPTIONAL, DATA_FORCE = "metadata-only", "data-optional", "data-force"
STRATEGIES = (METADATA_ONLY, DATA_OPTIONAL, DATA_FORCE)
_FOLDERS = frozenset({"model", "dir"})


async def delete(catalog: Catalog, project: str, version: Version, strategy: str) -> None:
    """Deletes the artifact's file; with `DATA_OPTIONAL` it is no error that it cannot be deleted.

    Raises:
        NotFound: there is no such artifact, or no such file.
        NotSupported: the data is not one file on this machine.
    """
    try:
        path = _file(await catalog.artifacts.find(project, version))
        await asyncio.to_thread(_unlink, path)
    except StokerError:
        if strategy == DATA_FORCE:
            raise


def _file(document: Document) -> Path:
    kind, target = text_at(document, "kind"), text_at(document, "spec", "target_path")
    parquet = target.endswith((".parquet", ".pq"))
    if kind in _FOLDERS or (kind == "dataset" and not parquet):
        # As MLRun's server: a folder may hold what other artifacts point at.
        raise NotSupported(f"Deleting artifact data kind: {kind} is currently not supported")
    address = urlsplit(target)
    if address.scheme not in ("", "file") or not target:
        raise NotSupported(f"Stoker deletes files of this machine only, not {target!r}")
    path = Path(unquote(address.path) if address.scheme else target)
    if not path.is_absolute():
        raise NotSupported(f"only an absolute path says which file is meant, was {target!r}")
    return path


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as exc:
        raise NotFound(f"the artifact's file cannot be deleted: {exc}") from exc
