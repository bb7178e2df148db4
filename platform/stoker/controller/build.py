"""The build of one candidate: source, environment, model. Its log goes to the deploy log."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from stoker.controller.effects import Change
from stoker.controller.environment import environment
from stoker.controller.fetched import fetched
from stoker.controller.happenings import BuildFailed, Built, Happening
from stoker.controller.installed import without_satisfied
from stoker.controller.pip_plan import PipPlan, read_plan
from stoker.controller.source import check_handler, unpack
from stoker.controller.subprocesses import run_streaming
from stoker.controller.threads import to_its_end
from stoker.controller.world import append_logs, if_candidate
from stoker.nouns.encodable import encodable
from stoker.nouns.errors import BadRequest, StokerError
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, LogEntry, ModelBytes, Revision

log = logging.getLogger(__name__)

LOG_BATCH_S = 0.25
"""Lines of a build are written together: pip tells hundreds, and each write is announced."""

Tell = Callable[[str], None]
Work = Callable[[], Coroutine[Any, Any, None]]


class Builds:
    """Runs at most one build a function; the newest candidate's.

    All work on a function's files waits its turn: a function that was deleted and made again has
    the same folders, and a stopped build ends later than the one that follows is asked for.
    """

    def __init__(
        self,
        home: Home,
        change: Callable[[str, Change], None],
        report: Callable[[Happening], None],
    ) -> None:
        self._home = home
        self._change = change
        self._report = report
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def start(self, record: FunctionRecord, device: str = "cpu") -> None:
        """Begins the candidate's build, its model for that device; the outcome is reported."""
        if record.candidate is None:
            return
        self.stop(record.name)
        work = partial(self._run, record.name, record.candidate, device)
        self._running[record.name] = self._begin(record.name, work)

    def stop(self, function: str) -> None:
        """Ends the function's build with all its processes; nothing is reported."""
        task = self._running.pop(function, None)
        if task is not None:
            task.cancel()

    def clean(self, function: str, remove: Callable[[], None]) -> None:
        """Removes files of the function in a thread, between its builds."""
        self._begin(function, partial(to_its_end, remove))

    async def close(self) -> None:
        """Ends all builds."""
        for name in list(self._running):
            self.stop(name)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, function: str, work: Work) -> asyncio.Task[None]:
        turn = self._turns.setdefault(function, asyncio.Lock())
        task = asyncio.get_running_loop().create_task(self._in_turn(turn, work))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(function, done))
        return task

    @staticmethod
    async def _in_turn(turn: asyncio.Lock, work: Work) -> None:
        async with turn:
            await work()

    def _ended(self, function: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._running.get(function) is task:
            del self._running[function]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the build of %s broke: %r", function, error, exc_info=error)

    async def _run(self, function: str, candidate: Revision, device: str) -> None:
        lines = _BuildLog(function, candidate.number, self._change)
        failure = ""
        built: Built | None = None
        try:
            built = await self._build(function, candidate, device, lines.tell)
        except StokerError as exc:
            failure = encodable(exc.message)
        except (OSError, UnicodeError) as exc:
            failure = f"the build cannot run: {exc}"
        except Exception as exc:
            # Unreported, the function would be "building" until somebody deploys it anew.
            log.exception("the build of %s broke", function)
            failure = f"the build broke: {type(exc).__name__}: {exc}"
        finally:
            lines.flush()
        if built is not None:
            self._report(built)
        else:
            self._report(BuildFailed(function, candidate.number, failure))

    async def _build(self, function: str, candidate: Revision, device: str, tell: Tell) -> Built:
        config = candidate.config
        code = self._home.code(function, candidate.number)
        wanted, _, version = config.spec.runtime.partition(":")
        ours = f"{sys.version_info.major}.{sys.version_info.minor}"
        if version and version != ours:
            tell(f"runtime {wanted}:{version} asked for: this home runs Python {ours}")
        stopped = threading.Event()
        async with fetched(config.spec.build, code.parent, tell, stopped) as folder:
            await to_its_end(partial(unpack, config, code, stopped, folder), stopped.set)
        plan, satisfied = await asyncio.to_thread(_plan, config, code)
        if satisfied:
            tell(f"installed already: {', '.join(satisfied)}")
        site: Path | None = None
        if not plan.is_empty:
            site = await environment(self._home.environments, plan, code, tell)
        await asyncio.to_thread(check_handler, config, code, site)
        model = None
        if config.env.get("STOKER_MODEL"):
            model = await self._prepare(config, code, site, device, tell)
        elif config.spec.handler.startswith(f"{_SERVES}:"):
            raise BadRequest(
                f"the handler {config.spec.handler} serves the model that STOKER_MODEL declares, "
                "which is not set: a folder, package://<module>/<path>, or a name on the hub"
            )
        return Built(function, candidate.number, str(code), str(site) if site else None, model)

    async def _prepare(
        self, config: FunctionConfig, code: Path, site: Path | None, device: str, tell: Tell
    ) -> ModelBytes | None:
        """Brings the model's checkpoint into the home, quantized as declared, before it is needed.

        Returns:
            What the preparation reported of it.

        Raises:
            BadRequest: it cannot; its last line says why, the rest is in the log.
        """
        report = code.parent / f"{code.name}.model.json"
        path = [str(code), *([str(site)] if site else []), os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ,
            **config.env,
            "STOKER_HOME": str(self._home.root),
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "PYTHONUNBUFFERED": "1",
            "STOKER_PREPARE_REPORT": str(report),
            # The workers' device, which this process may not see: what it took of a card would be
            # in no ledger.
            "STOKER_BUILD_DEVICE": device,
            "CUDA_VISIBLE_DEVICES": "",
        }
        last = ""

        def keep(line: str) -> None:
            nonlocal last
            if last.startswith(_REASON):
                tell(last)
            last = line
            # The reason is told once: as what the build failed of.
            if not line.startswith(_REASON):
                tell(line)

        command = [sys.executable, "-m", "stoker.models.prepare"]
        status = await run_streaming(command, env=env, cwd=code, tell=keep)
        if status and last.startswith(_REASON):
            raise BadRequest(f"the model cannot be prepared: {last.removeprefix(_REASON)}")
        if status:
            raise BadRequest(f"the model cannot be prepared (exit code {status}): {last}")
        return await asyncio.to_thread(_reported, report)


def _plan(config: FunctionConfig, code: Path) -> tuple[PipPlan, list[str]]:
    return without_satisfied(read_plan(config.spec.build, code))


def _reported(path: Path) -> ModelBytes | None:
    """What a preparation wrote; taken away with the reading."""
    try:
        return ModelBytes.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    finally:
        path.unlink(missing_ok=True)


_REASON = "error: "
"""How the last line of `stoker.models.prepare` begins where that says why it ended."""
_SERVES = "stoker.models.serve"
"""The module of the handler for functions without code."""


class _BuildLog:
    """Collects the build's lines and writes them in batches."""

    def __init__(self, function: str, number: int, change: Callable[[str, Change], None]) -> None:
        self._function = function
        self._number = number
        self._change = change
        self._entries: list[LogEntry] = []
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, line: str) -> None:
        self._entries.append(LogEntry(time=time.time() * 1000, message=line))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOG_BATCH_S, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._entries:
            entries = tuple(self._entries)
            self._entries.clear()
            self._change(
                self._function,
                if_candidate(self._number, lambda record: append_logs(record, entries)),
            )
