"""One request on its way to an outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stoker.decide.retry import may_retry
from stoker.nouns.errors import StokerError
from stoker.nouns.wire import RecordMeta, ResponseMeta

if TYPE_CHECKING:
    from stoker.sdk.routing.clock import Timer
    from stoker.sdk.routing.lane import Lane
    from stoker.sdk.routing.link import Link


class Caller(Protocol):
    """Who asked. Exactly one outcome arrives.

    The outcome is `on_response`, or `on_error`, or `on_head` with any number of `on_chunk` and then
    `on_end` or `on_error`. Nothing arrives after it, nor after `Call.cancel`.
    """

    def on_response(self, call: Call, meta: ResponseMeta, body: bytes, /) -> None:
        """The whole answer. ``meta["code"]`` set: the worker failed it, ``body`` says why."""

    def on_head(self, call: Call, meta: ResponseMeta, /) -> None:
        """A streamed answer begins."""

    def on_chunk(self, call: Call, data: bytes, /) -> None:
        """The next bytes of a streamed answer. `Call.pause` and `Call.resume` hold it back."""

    def on_end(self, call: Call, /) -> None:
        """The streamed answer is complete."""

    def on_error(self, call: Call, error: StokerError, /) -> None:
        """There is no answer, or no more of it."""


class Debtor(Protocol):
    """Who gave a worker records that it may acknowledge after it has answered."""

    def on_ack(self, link: Link, offset: int, /) -> None:
        """The worker has done with everything that it was given, up to an offset."""

    def on_nack(self, link: Link, offset: int, reason: str, /) -> None:
        """The worker failed the very record at an offset, after it had answered or before."""

    def on_refused(self, link: Link, /) -> None:
        """The worker took none of it: the record is on its way to another one."""

    def on_link_lost(self, link: Link, /) -> None:
        """No further acknowledgement comes from there."""


class Call:
    """A request and where it stands. Fields below the line are written by its lane and link only.

    Attributes:
        deadline: CLOCK_MONOTONIC seconds after which nobody wants the answer, or None.
        idempotent: the client vouches that running it twice does no harm.
        record: the record of a stream that this is; None for a request.
        debtor: who hears of that record's acknowledgement, should one follow the answer.
        pin: the worker that shall run it, for as long as that one takes requests.
        step: the name of the graph's step that calls; empty for a client's request.
        copied: it is made for a copy of a request, and is not to be recorded.
        shadow: a mirrored copy: it waits for nobody, and no other worker is tried.
        watched: the caller cancels it by itself when its deadline passes: no timer is needed.
        replica, revision: of the worker that has it, or had it at the end; 0: none took it.
        seq: place in the order of arrival at its function.
        arrived, sent: CLOCK_MONOTONIC seconds of submission and of the last dispatch (0: never).
        cold: it waited for a worker while none was warm.
        warm_at: when a worker became ready for it (CLOCK_MONOTONIC); 0 unless ``cold``.
        started: a handler may have seen it.
        losses: how many times a worker died that may have handed it to its handler.
        streaming: the head of a streamed answer was passed on, so it cannot be run again.
    """

    __slots__ = (
        "arrived",
        "body",
        "caller",
        "cold",
        "copied",
        "deadline",
        "debtor",
        "done",
        "headers",
        "id",
        "idempotent",
        "lane",
        "link",
        "losses",
        "method",
        "path",
        "pin",
        "record",
        "replica",
        "revision",
        "sent",
        "seq",
        "shadow",
        "started",
        "step",
        "stream",
        "streaming",
        "timer",
        "trigger",
        "warm_at",
        "watched",
    )

    def __init__(
        self,
        caller: Caller,
        id: str,  # noqa: A002 - the wire's name for it
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        *,
        deadline: float | None = None,
        idempotent: bool = False,
        trigger: str = "",
        record: RecordMeta | None = None,
        debtor: Debtor | None = None,
        pin: Link | None = None,
        watched: bool = False,
        step: str = "",
        copied: bool = False,
        shadow: bool = False,
    ) -> None:
        self.caller = caller
        self.id = id
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.deadline = deadline
        self.idempotent = idempotent
        self.trigger = trigger
        self.step = step
        self.copied = copied
        self.shadow = shadow
        self.watched = watched
        self.record = record
        self.debtor = debtor
        self.pin = pin
        # ----
        self.lane: Lane | None = None
        self.link: Link | None = None
        self.stream = 0
        self.seq = 0
        self.arrived = 0.0
        self.sent = 0.0
        self.cold = False
        self.warm_at = 0.0
        self.started = False
        self.losses = 0
        self.streaming = False
        self.done = False
        self.replica = ""
        self.revision = 0
        self.timer: Timer | None = None

    @property
    def may_run_again(self) -> bool:
        """Whether it may go to another worker, now that its own has died."""
        return not (self.streaming or self.shadow) and may_retry(
            method=self.method,
            idempotency_key=self.idempotent,
            started=self.started,
            attempts=self.losses,
        )

    def cancel(self) -> None:
        """The caller no longer wants the outcome; none arrives. Harmless when it is over."""
        if not self.done and self.lane is not None:
            self.lane.abandon(self)

    def pause(self) -> None:
        """Hold back the chunks of a streamed answer."""
        if self.link is not None and not self.done:
            self.link.pause(self.stream)

    def resume(self) -> None:
        """Let the chunks come again."""
        if self.link is not None and not self.done:
            self.link.resume(self.stream)

    def settle(self) -> None:
        """Marks it as over. For the lane and the link only."""
        self.done = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
