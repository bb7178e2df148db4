"""From events to their replies, with one run of the model for all that fit together."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from stoker.models.oip.routes import is_ours
from stoker.models.serving import open_inference, openai, plain
from stoker.models.serving.asked import EVENTS, Asked, Language, Reply, Served
from stoker.models.tasks.memory import is_out_of_memory, refusal
from stoker.models.tasks.steps import Steps
from stoker.models.tasks.task import read_all
from stoker.nouns.errors import HandlerFailed, StokerError

Log = Callable[[str], object]
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Job:
    """One event on its way.

    Attributes:
        language: what it speaks.
        asked: what it asks; None when it needs no run of the model.
        items: its inputs, read.
        results: one for each; None before they are there.
        reply: its answer; of a stream, its beginning.
        left: it is answered, or nobody waits for it.
    """

    language: Language
    asked: Asked | None = None
    items: list[Any] = field(default_factory=list)
    results: list[Any] | None = None
    reply: Reply | None = None
    left: bool = False


class Run:
    """Events and the one run of the model that answers them.

    Whoever waits for an answer has the next step made, one a turn of the loop whoever else waits:
    so the loop sees in between who has left, and when nobody waits nothing is computed.

    Args:
        served: the model.
        events: Nuclio's; whatever is wrong with one is its own.
        log: told what fails without being the client's mistake.

    Attributes:
        jobs: one for each event.
    """

    def __init__(self, served: Served, events: Sequence[Any], log: Log) -> None:
        self._model: Any = served.model
        self._log = log
        self.jobs = [self._read(served, event) for event in events]
        self._open = sum(job.reply is None for job in self.jobs)
        self._steps = self._run_all()
        self._turn: asyncio.Event | None = None

    def step(self) -> None:
        """One step of the model, for all whose answers it takes part in."""
        next(self._steps, None)

    def finish(self) -> None:
        """All steps that are left, without a pause."""
        for _ in self._steps:
            pass

    def reply(self, job: Job) -> Reply | None:
        """An event's answer, if it can be given, or begun, by now."""
        if job.reply is None and job.asked is not None:
            job.reply = self._begun(job) if job.asked.stream else self._whole(job, job.asked)
        return job.reply

    async def awaited(self, job: Job) -> Reply:
        """An event's answer. A cancelled wait is a client that has left."""
        try:
            return await self._until(lambda: self.reply(job))
        except BaseException:
            self._leave(job)
            raise

    def _read(self, served: Served, event: Any) -> Job:
        job = Job(language_of(str(event.path or "/")))
        try:
            asked = job.language.read(served, event)
            if isinstance(asked, Reply):
                job.reply = asked
            else:
                job.items = read_all(served.model, asked.inputs, asked.options)
                job.asked = asked
        except Exception as exc:
            job.reply = self._refused(job, exc)
        return job

    def _run_all(self) -> Steps[None]:
        together: dict[Any, list[Job]] = {}
        for job in self.jobs:
            if job.reply is None and job.asked is not None:
                together.setdefault(job.asked.options.shared(), []).append(job)
        for options, alike in together.items():
            yield from self._run(alike, options)

    def _run(self, jobs: list[Job], options: Any) -> Steps[None]:
        items = [item for job in jobs for item in job.items]
        try:
            results = yield from self._model.run_in_steps(items, options)
        except Exception as exc:
            results = [exc] * len(items)
        taken = iter(results)
        for job in jobs:
            job.results = [next(taken) for _ in job.items]

    async def _until(self, ask: Callable[[], T | None]) -> T:
        while (found := ask()) is None:
            if self._turn is None:
                self._turn = asyncio.Event()
                asyncio.get_running_loop().call_soon(self._turned)
                self.step()
            else:
                await self._turn.wait()
        return found

    def _turned(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.set()

    def _leave(self, job: Job) -> None:
        """It is answered, or nobody waits for it; the last one ends the run, wherever it is."""
        if job.left:
            return
        job.left = True
        for item in job.items:
            self._model.leave(item)
        self._open -= 1
        if not self._open:
            self._steps.close()

    # Whole answers

    def _whole(self, job: Job, asked: Asked) -> Reply | None:
        results = job.results
        if results is None:
            results = [self._model.result_of(item) for item in job.items]
            if any(one is None for one in results):
                return None
        self._leave(job)
        try:
            _raise_first(results)
            return asked.reply(results)
        except Exception as exc:
            return self._refused(job, exc)

    def _refused(self, job: Job, exc: Exception) -> Reply:
        if isinstance(exc, StokerError):
            if exc.status >= 500:
                self._log(exc.message)
            return job.language.refusal(exc)
        self._log("".join(traceback.format_exception(exc)).rstrip())
        if is_out_of_memory(exc):
            return job.language.refusal(refusal(exc, 1, 1))
        return job.language.refusal(HandlerFailed(f"the model raised {type(exc).__name__}: {exc}"))

    # Streams

    def _begun(self, job: Job) -> Reply | None:
        """The first piece is there before the head is sent: what fails until then has a status."""
        try:
            first = self._piece(job)
        except Exception as exc:
            self._leave(job)
            return self._refused(job, exc)
        if first is None:
            return None
        return Reply(200, self._lines(job, first), EVENTS, {"Cache-Control": "no-cache"})

    def _piece(self, job: Job) -> Any:
        _raise_first(job.results or ())
        return self._model.piece(job.items[0])

    async def _pieces(self, job: Job, first: Any) -> AsyncGenerator[Any, None]:
        piece = first
        yield piece
        while not piece.finish_reason:
            piece = await self._until(lambda: self._piece(job))
            yield piece

    async def _lines(self, job: Job, first: Any) -> AsyncGenerator[bytes, None]:
        """The head is sent: what fails now is told as an event."""
        asked = job.asked
        try:
            if asked is None or asked.stream is None:
                raise HandlerFailed("nothing was to be streamed")
            async with (
                aclosing(self._pieces(job, first)) as pieces,
                aclosing(asked.stream(job.items[0], pieces)) as lines,
            ):
                async for line in lines:
                    yield line
        except Exception as exc:
            body = self._refused(job, exc).body
            yield b"event: error\ndata: " + (body if isinstance(body, bytes) else b"") + b"\n\n"
        finally:
            self._leave(job)


def drained(lines: AsyncIterator[bytes]) -> bytes:
    """A stream in one piece, of a run that is finished: nothing in it has to be waited for."""
    found = []
    while True:
        try:
            lines.__anext__().__await__().send(None)
        except StopIteration as line:
            found.append(line.value)
        except StopAsyncIteration:
            return b"".join(found)


def language_of(path: str) -> Language:
    """The protocol that a path belongs to."""
    if is_ours(path):
        return open_inference
    return openai if path == "/v1" or path.startswith("/v1/") else plain


def _raise_first(results: Sequence[Any]) -> None:
    for one in results:
        if isinstance(one, Exception):
            raise one
