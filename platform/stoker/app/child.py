"""One child process: started or adopted, watched, started again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from stoker.app.backoff import delay_s
from stoker.app.files import disk_errors, first_line_of, tail, write_whole
from stoker.app.log_bounds import LIMIT_BYTES, OLDER
from stoker.app.plan import Plan, Role
from stoker.app.processes import MARK, ProcessRecord, ended, readable, started_at
from stoker.app.settings import ProcessSettings
from stoker.nouns.errors import StokerError
from stoker.nouns.home import Home
from stoker.worker.environ_block import padding

log = logging.getLogger(__name__)

READY_FD = "STOKER_READY_FD"
"""Environment variable: the descriptor on which a process says, once, that it is ready."""
FAILED_S = 0.2
"""After a start that the system refused, on top of the pause between starts."""
SECRETS = frozenset({"STOKER_API_KEY", "STOKER_REDIS_URL"})
"""Not handed on: a zygote's environment is what functions see."""


class StartFailed(StokerError):
    """A process of the platform ended, or fell silent, before it was ready."""

    code = "start_failed"


class Child:
    """One process of the platform.

    Single writer: the supervisor's loop, through `start`, `adopt` and `keep`.
    """

    def __init__(self, plan: Plan, home: Home, home_id: str, changed: Callable[[], None]) -> None:
        self.plan = plan
        self.record: ProcessRecord | None = None
        self._home = home
        self._home_id = home_id
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._ready_end = -1
        self._deaths: list[float] = []

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        return self._home.logs / f"{self.plan.name}.log"

    def adopt(self, record: ProcessRecord) -> None:
        """Takes over a process that an earlier supervisor started."""
        log.info("%s: adopted pid %d", self.plan.name, record.pid)
        self.record = record

    def start(self) -> None:
        """Starts the process.

        Raises:
            StartFailed: the system cannot start it.
            InsufficientStorage: its settings or its log cannot be written.
        """
        if self.plan.settings is not None and self.plan.settings_file is not None:
            self._write_settings(self.plan.settings_file, self.plan.settings)
        said, say = os.pipe()
        try:
            process = self._spawn(say)
        except BaseException as error:
            os.close(said)
            if isinstance(error, OSError):
                raise StartFailed(f"{self.plan.name} cannot be started: {error}") from error
            raise
        finally:
            os.close(say)
        self._close_ready_end()
        self._process, self._ready_end = process, said
        self.record = ProcessRecord(
            name=self.plan.name,
            pid=process.pid,
            started=started_at(process.pid) or 0,
            fingerprint=self.plan.fingerprint,
        )
        self._changed()

    def _write_settings(self, path: Path, settings: ProcessSettings) -> None:
        content = settings.model_dump_json().encode()
        # Written only when new: on a full disk a process that died must still come back.
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)

    def _spawn(self, say: int) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if k not in SECRETS}
        environment |= {
            MARK: self._home_id,
            "STOKER_HOME": str(self._home.root),
            "PYTHONUNBUFFERED": "1",
        }
        if self.plan.role is Role.ZYGOTE:
            environment |= padding()
        # Only our own entry points know what to do with it; anything else would keep it open.
        handed = (say,) if self.plan.settings is not None else ()
        if handed:
            environment[READY_FD] = str(say)
        self._bound_log()
        with disk_errors(self.log_path):
            output = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                self.plan.command,
                env=environment,
                cwd=self._home.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=handed,
                # A Ctrl-C in the terminal is for the supervisor, which then ends all in order.
                start_new_session=True,
            )
        finally:
            os.close(output)

    def _bound_log(self) -> None:
        if self.log_path.exists() and self.log_path.stat().st_size > LIMIT_BYTES:
            os.replace(self.log_path, self.log_path.with_suffix(OLDER))

    async def said_ready(self, limit_s: float) -> None:
        """Waits until the process says that it is ready.

        Raises:
            StartFailed: it ended or stayed silent; the message carries the tail of its log.
        """
        try:
            async with asyncio.timeout(limit_s):
                await readable(self._ready_end)
        except TimeoutError as error:
            raise self.failure(f"was not ready within {limit_s:g} s") from error
        if not os.read(self._ready_end, 16):
            await self.until_ended()
            raise self.failure("ended before it was ready")
        self._close_ready_end()

    def failure(self, what: str) -> StartFailed:
        """The error to raise about this process."""
        end = (
            ""
            if self._process is None or self._process.returncode is None
            else (f" (status {self._process.returncode})")
        )
        return StartFailed(
            f"{self.plan.name} {what}{end}; the end of {self.log_path}:\n{tail(self.log_path)}"
        )

    async def until_ended(self) -> None:
        """Returns when the process has ended, and leaves no zombie."""
        if self.record is not None:
            await ended(self.record)
        if self._process is not None:
            self._process.wait()

    async def keep(self) -> None:
        """Starts the process again whenever it dies; runs until cancelled."""
        while True:
            try:
                await self.until_ended()
                await self._start_again()
            except (StokerError, OSError) as error:
                # A full disk, or no descriptor left: it may be well again by the next try.
                log.error("%s: %s", self.plan.name, first_line_of(error))
                await asyncio.sleep(FAILED_S)

    async def _start_again(self) -> None:
        self._deaths = [*self._deaths, time.monotonic()][-32:]
        wait = delay_s(self._deaths, now=time.monotonic())
        log.warning("%s ended%s; started again in %.1f s", self.plan.name, self._how(), wait)
        await asyncio.sleep(wait)
        self.start()

    def _how(self) -> str:
        status = self._process.returncode if self._process else None
        return "" if status is None else f" with status {status}"

    def forget(self) -> None:
        """Lets go of descriptors; the process must have ended, or is left to itself."""
        self._close_ready_end()
        if self._process is not None:
            self._process.poll()

    def _close_ready_end(self) -> None:
        if self._ready_end >= 0:
            os.close(self._ready_end)
            self._ready_end = -1
