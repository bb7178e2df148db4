"""Code that is not on this machine yet, or not unpacked: brought into the home for one build."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stoker.controller.archive import fetch_archive
from stoker.controller.git_source import fetch_git
from stoker.controller.source import disk_full_is_ours
from stoker.controller.threads import to_its_end
from stoker.nouns.errors import BadRequest
from stoker.nouns.parts import Build
from stoker.nouns.secrecy import url_for_people

_ARCHIVE, _GIT, _GITHUB = "archive", "git", "github"
FETCHED = frozenset({_ARCHIVE, _GIT, _GITHUB})
_PREFIX = ".fetch-"


@asynccontextmanager
async def fetched(
    build: Build, beside: Path, tell: Callable[[str], None], stopped: threading.Event
) -> AsyncIterator[Path | None]:
    """The folder with the code of an archive or a repository, removed afterwards.

    None for code that is inline or lies on this machine.

    Args:
        build: the function's.
        beside: the folder of the function's revisions; one build at a time uses it.
        tell: gets lines for the deploy log.
        stopped: set when nobody waits for the build any more.

    Raises:
        BadRequest: it cannot be fetched, or has no such ``workDir``.
        InsufficientStorage: the disk is full.
    """
    if build.code_entry_type not in FETCHED:
        yield None
        return
    if not build.path:
        raise BadRequest(f"build.path must say where the {build.code_entry_type} is")
    folder = beside / f"{_PREFIX}{uuid.uuid4().hex[:8]}"
    await to_its_end(partial(_make, folder))
    try:
        with disk_full_is_ours():
            await _fetch(build, folder, tell, stopped)
        yield _inside(folder, str(_attributes(build).get("workDir") or ""))
    finally:
        await to_its_end(partial(shutil.rmtree, folder, ignore_errors=True))


def _make(folder: Path) -> None:
    with disk_full_is_ours():
        for left in folder.parent.glob(f"{_PREFIX}*"):  # by a controller that was killed
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        folder.mkdir(parents=True)


async def _fetch(
    build: Build, folder: Path, tell: Callable[[str], None], stopped: threading.Event
) -> None:
    attributes, url = _attributes(build), str(build.path)
    if build.code_entry_type in (_GIT, _GITHUB):
        await fetch_git(url, attributes, folder, tell)
        return
    tell(f"archive: fetching {url_for_people(url)}")
    given = attributes.get("headers")
    headers = {str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {}
    await to_its_end(partial(fetch_archive, url, headers, folder, stopped), stopped.set)


def _attributes(build: Build) -> dict[str, Any]:
    found = (build.model_extra or {}).get("codeEntryAttributes")
    return found if isinstance(found, dict) else {}


def _inside(folder: Path, workdir: str) -> Path:
    """The folder in the source that holds the code.

    Raises:
        BadRequest: there is none, or it leads outside.
    """
    root = folder.resolve()
    found = (root / workdir.strip("/")).resolve()
    if not found.is_relative_to(root):
        raise BadRequest(f"workDir must lie inside the source, was {workdir!r}")
    if not found.is_dir():
        there = ", ".join(sorted(path.name for path in root.iterdir())[:10])
        raise BadRequest(f"the source has no folder {workdir!r}; it has {there or 'nothing'}")
    return found
