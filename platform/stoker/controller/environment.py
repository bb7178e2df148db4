"""Environments made by build steps: one a content, shared by all functions that want the same."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stoker.controller.pip_plan import PipPlan
from stoker.controller.source import disk_full_is_ours
from stoker.controller.subprocesses import run_streaming
from stoker.controller.threads import to_its_end
from stoker.nouns.errors import BadRequest

_FINISHED = ".finished"
_LOCK_POLL_S = 0.1


async def environment(root: Path, plan: PipPlan, code: Path, tell: Callable[[str], None]) -> Path:
    """The site-packages of the environment for this plan, built unless it is there already.

    Two builds of one environment wait for each other; one that died half way is built anew.

    Raises:
        BadRequest: pip failed; its words have been told.
        InsufficientStorage: the disk is full.
    """
    digest = await to_its_end(partial(plan.digest, code))
    folder = root / digest
    async with _locked(root / f"{digest}.lock") as lock:
        if await asyncio.to_thread((folder / _FINISHED).is_file):
            tell(f"environment {digest}: reused")
            return site_packages(folder)
        tell(f"environment {digest}: installing {', '.join(plan.requirements)}")
        try:
            await _build(folder, plan, _Step(code, tell, lock))
        except BaseException:
            await _remove(folder)
            raise
    return site_packages(folder)


async def _remove(folder: Path) -> None:
    await to_its_end(partial(shutil.rmtree, folder, ignore_errors=True))


@dataclass(frozen=True, slots=True)
class _Step:
    """Runs one command of an installation, which holds the environment's lock as well.

    Else the lock of a killed controller would be free while its pip still writes.
    """

    code: Path
    tell: Callable[[str], None]
    lock: int

    async def run(self, command: list[str], failure: str) -> None:
        last: list[str] = []

        def keep(line: str) -> None:
            last[:] = [*last[-4:], line]
            self.tell(line)

        status = await run_streaming(
            command, env=os.environ, cwd=self.code, tell=keep, inherited=(self.lock,)
        )
        if status:
            errors = [line for line in last if "ERROR" in line] or last[-1:]
            raise BadRequest(f"{failure} (exit code {status}): {'; '.join(errors)}")


async def _build(folder: Path, plan: PipPlan, step: _Step) -> None:
    await _remove(folder)
    create = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    await step.run(create, "the environment cannot be made")
    with disk_full_is_ours():
        # pip then sees what the platform has and installs only what differs.
        platform_sites = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (site_packages(folder) / "platform.pth").write_text("\n".join(sorted(platform_sites)))
    install = [
        sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"),
        "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off",
        *plan.options, *plan.requirements,
    ]  # fmt: skip
    await step.run(install, "pip install failed")
    with disk_full_is_ours():
        marker = folder / f"{_FINISHED}.new"
        marker.write_text("\n".join(plan.requirements))
        marker.rename(folder / _FINISHED)


def site_packages(folder: Path) -> Path:
    """Where the environment's distributions lie."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[int]:
    """Holds the file's lock: its descriptor.

    Polled, so that a cancelled build does not leave a waiting thread.
    """
    with disk_full_is_ours():
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)
