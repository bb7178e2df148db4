"""Sends recorded requests again, and compares the answers with the recorded ones or with others.

Memory is bounded by the number of requests in flight and of items shown, not by the set.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import httpx
import orjson

from stoker.decide.compare import Answer, CompareRules, Comparison, Verdict, compare
from stoker.decide.redact import Redactor, Unredactable
from stoker.nouns.exchange import CONTENT_TYPE, Exchange, Message
from stoker.nouns.recording import REPLAY_HEADER
from stoker.quality.replay_result import Place, ReplayItem, ReplayResult

SHOWN_ITEMS = 20
"""Requests of a report: the most different ones."""
_LONGEST = 2000
"""Characters of a body in the report."""
_PATIENCE_S = 120.0
"""Seconds that a target may refuse for want of workers: a function at zero is woken by the first
request, and one that is busy with its own traffic goes before a replay."""
_PAUSE_S = 0.25
_NOT_NOW = frozenset({429, 502, 503})
_REPLICA = "x-stoker-replica"
_ASCII = "".join(map(chr, range(33, 127)))
_ERROR_OF_OURS = ("error.request_id",)
"""What makes two answers of ours to the same failure differ."""

_NOTE_REDACTED = (
    "{count} requests were redacted before they were written; they were sent as they are in the "
    "recording"
)
_NOTE_ALTERED = (
    "{count} of them are answered otherwise than recorded, which proves nothing: their recorded "
    "answers are to the requests as they came. Two live targets (--against) compare them"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. ``url`` is a function's; ``headers`` go with each, such as a key."""

    words: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A replay to be carried out.

    Attributes:
        baseline: the other live target; None: the recorded answers.
        candidate: what is asked.
        redactor: the rules of the recording, for the new answers.
        at_once: requests in flight.
        timeout_s: for one answer.
    """

    function: str
    candidate: Target
    baseline: Target | None = None
    rules: CompareRules = field(default_factory=CompareRules)
    redactor: Redactor | None = None
    at_once: int = 4
    timeout_s: float = 60.0


async def replay(
    exchanges: Iterable[Exchange],
    plan: Plan,
    *,
    baseline_words: str = "the recorded answers",
    progress: Callable[[int], object] = lambda _done: None,
) -> ReplayResult:
    """Sends each request, at most ``plan.at_once`` at a time.

    Args:
        exchanges: the requests with their recorded answers.
        plan: where to, and what counts as the same.
        baseline_words: what the recorded answers are called in the result.
        progress: told after each request how many are done.
    """
    tally = _Tally(plan, plan.baseline.words if plan.baseline else baseline_words)
    limits = httpx.Limits(max_connections=2 * plan.at_once)
    async with httpx.AsyncClient(limits=limits, timeout=plan.timeout_s, trust_env=False) as client:
        source = iter(enumerate(exchanges))
        async with asyncio.TaskGroup() as group:
            for _ in range(plan.at_once):
                group.create_task(_work(client, source, plan, tally, progress))
    return tally.result()


async def _work(
    client: httpx.AsyncClient,
    source: Iterator[tuple[int, Exchange]],
    plan: Plan,
    tally: _Tally,
    progress: Callable[[int], object],
) -> None:
    for index, exchange in source:
        try:
            pair = await _pair(client, exchange, plan)
        except _Unanswered as exc:
            tally.fail(index, exchange, str(exc))
        else:
            tally.count(index, exchange, *pair)
        progress(tally.sent)


async def _pair(client: httpx.AsyncClient, exchange: Exchange, plan: Plan) -> tuple[Answer, Answer]:
    if plan.baseline is None:
        recorded = exchange.answer
        baseline = Answer(exchange.status, recorded.content_type, recorded.body)
        candidate = await _ask(client, plan.candidate, exchange, plan.redactor)
    else:
        baseline, candidate = await asyncio.gather(
            _ask(client, plan.baseline, exchange, plan.redactor),
            _ask(client, plan.candidate, exchange, plan.redactor),
        )
    if exchange.method == "HEAD":
        # HTTP carries no body then, whatever the handler gave.
        return Answer(baseline.status, baseline.content_type, b""), candidate
    return baseline, candidate


class _Unanswered(Exception):
    """A target did not answer, and why."""


async def _ask(
    client: httpx.AsyncClient, target: Target, exchange: Exchange, redactor: Redactor | None
) -> Answer:
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            response = await client.request(
                exchange.method,
                _url(target.url, exchange.path),
                headers=_headers(exchange, target),
                content=exchange.request.body,
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            raise _Unanswered(f"{target.words}: {exc or type(exc).__name__}") from exc
        refusal = _refusal(response)
        if not refusal:
            return _answer(response, redactor)
        if response.status_code not in _NOT_NOW or time.monotonic() >= give_up:
            raise _Unanswered(f"{target.words}: {response.status_code} {refusal}")
        await asyncio.sleep(_PAUSE_S)


def _url(base: str, path: str) -> httpx.URL:
    # As recorded, byte for byte: quoted anew, it would be another path.
    url = httpx.URL(base)
    quoted = quote(path.encode("latin-1", "replace"), safe=_ASCII)
    return url.copy_with(raw_path=url.raw_path.rstrip(b"/") + quoted.encode())


def _headers(exchange: Exchange, target: Target) -> dict[str, str]:
    headers = {**exchange.request.headers, **target.headers, REPLAY_HEADER: "1"}
    if "event-stream" in headers.get("accept", ""):
        # The gateway would put the answer into events; recorded is what the handler gave.
        headers["accept"] = "*/*"
    return headers


def _refusal(response: httpx.Response) -> str:
    """Why no worker answered; empty when one did, or when it is no platform like ours."""
    if response.status_code < 400 or _REPLICA in response.headers:
        return ""
    try:
        error = orjson.loads(response.content)["error"]
        return f"{error['code']}: {error['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def _answer(response: httpx.Response, redactor: Redactor | None) -> Answer:
    kind = response.headers.get(CONTENT_TYPE, "")
    body = response.content
    if redactor is not None:
        try:
            body = redactor.message(Message({CONTENT_TYPE: kind}, body)).body
        except Unredactable as exc:
            body = f"(not shown, because it cannot be redacted: {exc})".encode()
    return Answer(response.status_code, kind, body)


class _Tally:
    """Counts, and keeps the most different."""

    def __init__(self, plan: Plan, baseline: str) -> None:
        self._plan = plan
        self._baseline = baseline
        self._began = time.monotonic()
        self._started_at = time.time()
        self._counts = dict.fromkeys(("identical", "within", "different", "altered", "failed"), 0)
        self._redacted = 0
        self._largest = 0.0
        self._kept: list[tuple[float, int, ReplayItem]] = []

    @property
    def sent(self) -> int:
        return sum(self._counts.values())

    def count(self, index: int, exchange: Exchange, baseline: Answer, candidate: Answer) -> None:
        rules = self._plan.rules
        if baseline.status >= 400:
            rules = CompareRules(rules.tolerance, (*rules.ignore, *_ERROR_OF_OURS))
        found = compare(baseline, candidate, rules)
        self._redacted += bool(exchange.altered)
        if found.verdict is not Verdict.DIFFERENT:
            self._counts["identical" if found.verdict is Verdict.IDENTICAL else "within"] += 1
            self._largest = max(self._largest, found.distance)
            return
        alters = bool(exchange.altered) and self._plan.baseline is None
        outcome: Literal["altered", "different"] = "altered" if alters else "different"
        self._counts[outcome] += 1
        shown = _shown(baseline.body), _shown(candidate.body)
        self._keep(index, exchange, outcome, found, shown)

    def fail(self, index: int, exchange: Exchange, error: str) -> None:
        self._redacted += bool(exchange.altered)
        self._counts["failed"] += 1
        missing = Comparison(Verdict.DIFFERENT, distance=float("inf"))
        self._keep(index, exchange, "failed", missing, ("", ""), error)

    def _keep(
        self,
        index: int,
        exchange: Exchange,
        outcome: Literal["different", "altered", "failed"],
        found: Comparison,
        shown: tuple[str, str],
        error: str = "",
    ) -> None:
        item = ReplayItem(
            item=index,
            outcome=outcome,
            sender=f"{exchange.via} {exchange.step}".strip(),
            method=exchange.method,
            path=exchange.path,
            revision=exchange.revision,
            distance=found.distance if outcome != "failed" else 0.0,
            request=_shown(exchange.request.body),
            baseline=shown[0],
            candidate=shown[1],
            places=tuple(Place(**_place(one)) for one in found.differences),
            place_count=found.count,
            error=error,
        )
        # What proves nothing must not push out what does.
        rank = -1.0 if outcome == "altered" else found.distance
        heapq.heappush(self._kept, (rank, -index, item))
        if len(self._kept) > SHOWN_ITEMS:
            heapq.heappop(self._kept)

    def result(self) -> ReplayResult:
        notes = []
        if self._redacted:
            notes.append(_NOTE_REDACTED.format(count=self._redacted))
        if self._counts["altered"]:
            notes.append(_NOTE_ALTERED.format(count=self._counts["altered"]))
        return ReplayResult(
            function=self._plan.function,
            baseline=self._baseline,
            candidate=self._plan.candidate.words,
            tolerance=self._plan.rules.tolerance,
            ignore=self._plan.rules.ignore,
            started_at=self._started_at,
            seconds=time.monotonic() - self._began,
            sent=self.sent,
            redacted=self._redacted,
            largest=self._largest,
            items=tuple(item for _, _, item in sorted(self._kept, reverse=True)),
            notes=tuple(notes),
            **self._counts,
        )


def _place(one: Any) -> dict[str, Any]:
    return {
        "path": one.path,
        "baseline": one.left,
        "candidate": one.right,
        "distance": one.distance,
    }


def _shown(body: bytes) -> str:
    text = body[: 4 * _LONGEST].decode("utf-8", "backslashreplace")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
