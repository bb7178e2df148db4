"""Running a build step: its lines streamed, its whole process group ended when nobody wants it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LINE_LIMIT = 1024 * 1024


async def run_streaming(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    tell: Callable[[str], None],
    inherited: Sequence[int] = (),
) -> int:
    """Runs it to its end and tells every line of its stdout and stderr; its exit code.

    Args:
        command: the program and its arguments.
        env: its whole environment.
        cwd: where it runs.
        tell: gets each line.
        inherited: descriptors that stay open in it: a lock is then held as long as it lives, even
            when this process is killed before it.

    Raises:
        OSError: it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(env),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        limit=LINE_LIMIT,
        pass_fds=tuple(inherited),
    )
    try:
        if process.stdout is not None:
            await _stream(process.stdout, tell)
        return await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _stream(reader: asyncio.StreamReader, tell: Callable[[str], None]) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            tell(f"(a line over {LINE_LIMIT} bytes)")
            continue
        if not line:
            return
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            tell(text)
