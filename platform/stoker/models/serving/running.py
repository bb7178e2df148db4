"""From a batch of events to their replies, with one run of the model for all that fit together."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.models.oip.routes import is_ours
from stoker.models.serving import open_inference, openai, plain
from stoker.models.serving.asked import EVENTS, Asked, Language, Reply, Served
from stoker.models.tasks.memory import attempt, is_out_of_memory, refusal
from stoker.models.tasks.steps import Steps
from stoker.models.tasks.task import read_all
from stoker.nouns.errors import BadRequest, HandlerFailed, StokerError

Log = Callable[[str], object]


@dataclass(slots=True)
class _Job:
    """One event on its way."""

    language: Language
    asked: Asked | None = None
    items: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    reply: Reply | None = None


def language_of(path: str) -> Language:
    """The protocol that a path belongs to."""
    if is_ours(path):
        return open_inference
    return openai if path == "/v1" or path.startswith("/v1/") else plain


def answer(served: Served, events: Sequence[Any], log: Log, *, batched: bool) -> Steps[list[Reply]]:
    """A reply for each event; whatever is wrong with one is its own. May be left between steps.

    Args:
        served: the model.
        events: Nuclio's.
        log: told what fails without being the client's mistake.
        batched: the events come as a batch, whose answers cannot be streamed.
    """
    jobs = [_read(served, event, log, batched) for event in events]
    together: dict[Any, list[_Job]] = {}
    for job in jobs:
        if job.reply is None and job.asked is not None:
            together.setdefault(job.asked.options, []).append(job)
    for options, alike in together.items():
        yield from _run(served, alike, options)
    return [job.reply or _finished(job, log) for job in jobs]


def _read(served: Served, event: Any, log: Log, batched: bool) -> _Job:
    job = _Job(language_of(str(event.path or "/")))
    try:
        asked = job.language.read(served, event)
        if isinstance(asked, Reply):
            job.reply = asked
            return job
        job.asked = asked
        job.items = read_all(served.model, asked.inputs, asked.options)
        if asked.stream is not None:
            if batched:
                raise BadRequest(
                    "this function takes requests in batches, whose answers cannot be streamed: "
                    "leave stream out, or deploy it without batch"
                )
            job.reply = _streamed(served, job, asked, log)
    except Exception as exc:
        job.reply = _refused(job.language, exc, log)
    return job


def _run(served: Served, jobs: list[_Job], options: Any) -> Steps[None]:
    items = [item for job in jobs for item in job.items]
    try:
        results = yield from served.model.run_in_steps(items, options)
    except Exception as exc:
        results = [exc] * len(items)
    taken = iter(results)
    for job in jobs:
        job.results = [next(taken) for _ in job.items]


def _finished(job: _Job, log: Log) -> Reply:
    failed = next((one for one in job.results if isinstance(one, Exception)), None)
    if failed is not None or job.asked is None:
        return _refused(job.language, failed or HandlerFailed("nothing was asked"), log)
    try:
        return job.asked.reply(job.results)
    except Exception as exc:
        return _refused(job.language, exc, log)


def _refused(language: Language, exc: Exception, log: Log) -> Reply:
    if isinstance(exc, StokerError):
        if exc.status >= 500:
            log(exc.message)
        return language.refusal(exc)
    log("".join(traceback.format_exception(exc)).rstrip())
    if is_out_of_memory(exc):
        return language.refusal(refusal(exc, 1, 1))
    return language.refusal(HandlerFailed(f"the model raised {type(exc).__name__}: {exc}"))


def _streamed(served: Served, job: _Job, asked: Asked, log: Log) -> Reply:
    """The first piece is there before the head is sent: what fails until then has a status."""
    model: Any = served.model
    item = job.items[0]

    def begin(items: Sequence[Any]) -> list[Any]:
        pieces = model.stream(items[0], asked.options)
        return [(next(pieces), pieces)]

    begun = attempt(begin, [item])[0]
    if isinstance(begun, Exception):
        raise begun
    encode = asked.stream
    if encode is None:
        raise HandlerFailed("nothing was to be streamed")
    lines = encode(item, _chained(*begun))
    return Reply(200, _guarded(job.language, lines, log), EVENTS, {"Cache-Control": "no-cache"})


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    try:
        yield first
        yield from rest
    finally:
        close = getattr(rest, "close", None)
        if close is not None:
            close()


def _guarded(language: Language, lines: Iterator[bytes], log: Log) -> Iterator[bytes]:
    """The head is sent: what fails now is told as an event."""
    try:
        yield from lines
    except Exception as exc:
        body = _refused(language, exc, log).body
        yield b"event: error\ndata: " + (body if isinstance(body, bytes) else b"") + b"\n\n"
