"""Mirrored traffic: a canary gets copies of requests, and its answers are only compared.

A copy is made once the client has its answer, and only for a worker of the canary that is free:
nobody waits for it, and whatever becomes of it is a count. The canary's handler does run: what a
handler changes in the world, it changes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from stoker.decide.compare import Answer, CompareRules, Comparison, Verdict, compare
from stoker.decide.route import choose
from stoker.decide.split import by_turn
from stoker.nouns.errors import HandlerFailed, NoCapacity, StokerError
from stoker.nouns.recording import MIRROR_HEADER, UNRECORDED
from stoker.nouns.rollout import CanarySpec
from stoker.nouns.wire import ResponseMeta
from stoker.sdk.routing.call import Call
from stoker.sdk.routing.link import Link

IN_FLIGHT = 8
"""Copies that one router has on their way, or under comparison, at once."""
LARGEST = 256 * 1024
"""Bytes of a body, or of an answer, beyond which no copy is made: both are held until then."""
AT_ONCE = 16 * 1024
"""Bytes of answers that are compared between two requests; larger ones, in a thread."""
PATIENCE_S = 60.0
"""Seconds that a copy may take where the function has no timeout of its own."""


class Mirror:
    """Sends the copies and counts what came of them. Single writer: the lane's loop.

    Attributes:
        mirrored: copies that the canary answered.
        differing: of these, answered otherwise.
        failed: copies that were sent and not answered: lost with their worker, or too late.
        dropped: copies that were due and not made: no worker of the canary was free, too many were
            on their way, or too large.
    """

    __slots__ = (
        "_held",
        "_links",
        "_now",
        "_rules",
        "_share",
        "_turn",
        "differing",
        "dropped",
        "failed",
        "mirrored",
    )

    def __init__(
        self, spec: CanarySpec, links: Callable[[], Sequence[Link]], now: Callable[[], float]
    ) -> None:
        self.mirrored = self.differing = self.failed = self.dropped = 0
        self._share = spec.mirror
        self._rules = CompareRules(spec.tolerance, spec.ignore)
        self._links = links
        self._now = now
        self._held = 0
        self._turn = 0

    def copy(self, call: Call, meta: ResponseMeta, body: bytes) -> None:
        """The serving revision has answered a request, and its client has the answer.

        Not copied are calls that are copies themselves, those of triggers, and answers that are
        the worker's own failure. Streamed answers do not come here: they would have to be held.
        """
        if call.trigger or call.copied or meta.get("code") or not _is_first(call):
            return
        self._turn += 1
        if not by_turn(self._share, self._turn):
            return
        link = self._free()
        if link is None or len(call.body) > LARGEST or len(body) > LARGEST:
            self.dropped += 1
            return
        self._held += 1
        link.send(self._copy_of(call, _answer(meta, body)))

    def _free(self) -> Link | None:
        if self._held >= IN_FLIGHT:
            return None
        links = self._links()
        index = choose([len(link.streams) for link in links], [link.permits for link in links], 0)
        return None if index is None else links[index]

    def _copy_of(self, call: Call, answer: Answer) -> Call:
        now = self._now()
        limit_s = call.lane.limits.event_timeout_s if call.lane is not None else None
        made = Call(
            _Awaiting(self, answer),
            f"{call.id}~mirror",
            call.method,
            call.path,
            {**call.headers, MIRROR_HEADER: "1"},
            call.body,
            deadline=now + (PATIENCE_S if limit_s is None else limit_s),
            step=call.step,
            copied=True,
            shadow=True,
        )
        made.lane, made.arrived, made.sent = call.lane, now, now
        return made

    # -- what came of a copy

    def answered(self, serving: Answer, canary: Answer) -> None:
        """The canary answered."""
        self.mirrored += 1
        at_once = serving.body == canary.body or len(serving.body) + len(canary.body) <= AT_ONCE
        if at_once:
            self._judged(compare(serving, canary, self._rules))
            return
        loop = asyncio.get_running_loop()
        judging = loop.run_in_executor(_thread(), compare, serving, canary, self._rules)
        judging.add_done_callback(lambda done: self._judged(done.result()))

    def differs(self) -> None:
        """The canary began to stream what the serving revision gave whole."""
        self.mirrored += 1
        self.differing += 1
        self._held -= 1

    def missed(self, *, sent: bool) -> None:
        """There is no answer: the canary refused the copy after all, or was lost with it."""
        if sent:
            self.failed += 1
        else:
            self.dropped += 1
        self._held -= 1

    def _judged(self, found: Comparison) -> None:
        self.differing += found.verdict is Verdict.DIFFERENT
        self._held -= 1


class _Awaiting:
    """Hears what becomes of one copy (see `Caller`)."""

    __slots__ = ("_mirror", "_serving")

    def __init__(self, mirror: Mirror, serving: Answer) -> None:
        self._mirror = mirror
        self._serving = serving

    def on_response(self, _call: Call, meta: ResponseMeta, body: bytes) -> None:
        """See `Caller`."""
        if meta.get("code") not in (None, HandlerFailed.code):
            self._mirror.missed(sent=True)  # its deadline passed, or the worker had to go
        else:
            self._mirror.answered(self._serving, _answer(meta, body))

    def on_head(self, call: Call, _meta: ResponseMeta) -> None:
        """See `Caller`."""
        call.cancel()
        self._mirror.differs()

    def on_chunk(self, _call: Call, _data: bytes) -> None:
        """See `Caller`. None comes: it was cancelled at its head."""

    def on_end(self, _call: Call) -> None:
        """See `Caller`. None comes: it was cancelled at its head."""

    def on_error(self, _call: Call, error: StokerError) -> None:
        """See `Caller`."""
        self._mirror.missed(sent=not isinstance(error, NoCapacity))


def _is_first(call: Call) -> bool:
    return UNRECORDED.isdisjoint(call.headers)


def _answer(meta: ResponseMeta, body: bytes) -> Answer:
    return Answer(meta["status"], meta["headers"].get("content-type", ""), body)


@cache
def _thread() -> ThreadPoolExecutor:
    """One for a process: large answers are compared one after the other."""
    return ThreadPoolExecutor(1, "mirror")
