"""One recorded request and its answer, and the line of a file that it is."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

CONTENT_TYPE = "content-type"


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer, as far as it is kept. Header names are lower case."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """As its sender named it; empty when it did not."""
        return self.headers.get(CONTENT_TYPE, "")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a worker was asked, and what it answered.

    Attributes:
        time: of the answer, epoch seconds.
        function: its name.
        revision: that answered.
        via: who asked: ``gateway``, ``graph``, ``stream`` or ``cron``.
        step: of a graph's call, ``<the graph's function>/<its step>``; of a stream's record or of
            a cron trigger, the trigger's name; empty for a client's request.
        method, path: of the request; the path has the query string.
        request: its headers and body.
        status: of the answer.
        answer: its headers and body.
        seconds: in the handler.
        altered: the rules that changed the request before it was written, so that its answer is
            one to another request.
        answer_altered: the rules that changed the answer.
    """

    time: float
    function: str
    revision: int
    via: str
    step: str
    method: str
    path: str
    request: Message
    status: int
    answer: Message
    seconds: float = 0.0
    altered: tuple[str, ...] = ()
    answer_altered: tuple[str, ...] = ()

    def line(self) -> bytes:
        """As one line of JSON, its newline included."""
        document = {
            "time": round(self.time, 6),
            "function": self.function,
            "revision": self.revision,
            "via": self.via,
            "step": self.step,
            "seconds": round(self.seconds, 6),
            "request": {"method": self.method, "path": self.path, **_shown(self.request)}
            | _rules(self.altered),
            "answer": {"status": self.status, **_shown(self.answer)} | _rules(self.answer_altered),
        }
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Exchange:
        """From a line.

        Raises:
            ValueError: it is none.
        """
        try:
            document = json.loads(line)
            asked, answered = document["request"], document["answer"]
            return cls(
                time=float(document["time"]),
                function=str(document["function"]),
                revision=int(document["revision"]),
                via=str(document["via"]),
                step=str(document["step"]),
                method=str(asked["method"]),
                path=str(asked["path"]),
                request=_message(asked),
                status=int(answered["status"]),
                answer=_message(answered),
                seconds=float(document["seconds"]),
                altered=tuple(asked.get("altered", ())),
                answer_altered=tuple(answered.get("altered", ())),
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"no recorded request: {exc!r}") from exc


def _rules(altered: tuple[str, ...]) -> dict[str, Any]:
    return {"altered": list(altered)} if altered else {}


def _shown(message: Message) -> dict[str, Any]:
    """The body as text where it is UTF-8, so that people and ``jq`` can read it."""
    try:
        return {"headers": message.headers, "body": message.body.decode()}
    except UnicodeDecodeError:
        return {"headers": message.headers, "base64": base64.b64encode(message.body).decode()}


def _message(document: dict[str, Any]) -> Message:
    packed = document.get("base64")
    body = base64.b64decode(packed) if packed is not None else str(document["body"]).encode()
    return Message(dict(document["headers"]), body)
