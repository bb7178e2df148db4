"""One recipe as it will run: deployed beside the real function, asked, measured, deleted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.nouns.errors import StokerError
from stoker.quality.checkpoint import Checkpoint
from stoker.quality.declaration import Ask
from stoker.quality.platform import Platform, Refused
from stoker.quality.result import Measured

Tell = Callable[[str], None]
_ROUNDS = 15
"""Requests of which the handler's median time is taken."""
_WARM = 3
"""Before that, not counted."""


class TrialFailed(StokerError):
    """A recipe cannot be built, or does not answer; the message is the reason."""

    code = "trial_failed"
    status = 422


@dataclass(slots=True)
class Trial:
    """A deployed recipe. ``asked`` and ``spent_s`` add up over all that it was asked."""

    platform: Platform
    name: str
    checkpoint: Checkpoint | None
    ready_s: float
    asked: int = 0
    spent_s: float = 0.0

    def answers(self, texts: Sequence[str], ask: Ask) -> list[Any]:
        """The answer to each text.

        Raises:
            TrialFailed: it refuses, or answers with another number of answers.
        """
        size = 1 if ask.single else ask.items
        parts = [texts[begin : begin + size] for begin in range(0, len(texts), size)]
        started = time.monotonic()
        try:
            with ThreadPoolExecutor(ask.concurrency, "stoker-ask") as pool:
                # Of a run that is interrupted, or a trial that fails, the rest is not asked.
                found = list(pool.map(lambda part: self._ask(part, ask)[0], parts))
        except Refused as exc:
            raise TrialFailed(exc.message) from exc
        self.asked += len(texts)
        self.spent_s += time.monotonic() - started
        return [answer for part in found for answer in part]

    def measure(self, texts: Sequence[str], ask: Ask, items: Sequence[int]) -> Measured:
        """What it costs, after it was asked: as it is when it serves."""
        latency = {}
        for count in items if not ask.single else (1,):
            if len(texts) >= 1:
                latency[str(count)] = self._latency(texts, ask, count)
        checkpoint = self.checkpoint
        return Measured(
            weight_bytes=checkpoint.weight_bytes if checkpoint else 0,
            memory_bytes=self._memory(),
            prepare_s=checkpoint.prepare_s if checkpoint else 0.0,
            ready_s=round(self.ready_s, 3),
            latency_ms={count: ms for count, ms in latency.items() if ms is not None},
            items_per_s=round(self.asked / self.spent_s, 1) if self.spent_s else 0.0,
        )

    def _latency(self, texts: Sequence[str], ask: Ask, count: int) -> float | None:
        """The handler's median time, one request at a time, each with other texts."""
        found = []
        for round_ in range(_WARM + _ROUNDS):
            begin = round_ * count
            part = [texts[(begin + i) % len(texts)] for i in range(count)]
            _, took = self._ask(part, ask)
            if round_ >= _WARM and took is not None:
                found.append(took)
        return round(statistics.median(found), 3) if found else None

    def _ask(self, part: Sequence[str], ask: Ask) -> tuple[list[Any], float | None]:
        told, took = self.platform.ask(self.name, ask.path, filled(ask.body, part))
        answer = taken(told, ask.answer)
        if ask.single:
            return [answer], took
        if not isinstance(answer, list) or len(answer) != len(part):
            got = f"{len(answer)} answers" if isinstance(answer, list) else type(answer).__name__
            raise TrialFailed(f"{self.name}: {len(part)} texts were sent, {ask.answer} has {got}")
        return answer, took

    def _memory(self) -> int | None:
        """Bytes of one worker, what it shares counted by share; None where it is not to be seen."""
        sizes = [
            worker["pssBytes"]
            for replica in self.platform.replicas(self.name)
            for worker in replica["workers"]
            if worker.get("pssBytes")
        ]
        return int(statistics.mean(sizes)) if sizes else None


@contextmanager
def trial(
    platform: Platform, document: dict[str, Any], home: Path | None, tell: Tell
) -> Iterator[Trial]:
    """Deploys a trial and deletes it, whatever happens.

    Raises:
        TrialFailed: it does not become ready.
    """
    name = document["metadata"]["name"]
    try:
        try:
            function = platform.deploy(document, tell)
        except Refused as exc:
            raise TrialFailed(exc.message) from exc
        status = function["status"]
        if status["state"] != "ready":
            raise TrialFailed(status.get("message") or f"it is {status['state']}")
        checkpoint = Checkpoint.of(status.get("model"), home)
        yield Trial(platform, name, checkpoint, _ready_s(status["logs"]))
    finally:
        try:
            platform.delete(name)
        except StokerError as exc:
            # Told and not raised: what ended the trial matters more, and the next run deletes it.
            tell(f"{name} could not be deleted: {exc.message}")


def _ready_s(logs: Sequence[dict[str, Any]]) -> float:
    """From the end of the build to the first ready replica, by the deploy log; 0: not known."""
    built = [one["time"] for one in logs if str(one["message"]).startswith("built revision")]
    return max(0.0, (logs[-1]["time"] - built[-1]) / 1000) if built else 0.0


def filled(body: Any, texts: Sequence[str]) -> Any:
    """A request's body: the marks replaced.

    >>> filled({"a": ["$text"], "b": "$texts"}, ["x"])
    {'a': ['x'], 'b': ['x']}
    """
    if isinstance(body, dict):
        return {key: filled(value, texts) for key, value in body.items()}
    if isinstance(body, list):
        return [filled(value, texts) for value in body]
    if body == "$texts":
        return list(texts)
    return texts[0] if body == "$text" else body


def taken(answer: Any, path: str) -> Any:
    """What stands at a dotted path of an answer; the empty path is the answer itself.

    Raises:
        TrialFailed: nothing stands there.

    >>> taken({"a": [{"b": 1}]}, "a.0.b")
    1
    """
    found = answer
    for part in filter(None, path.split(".")):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise TrialFailed(
                f"an answer has nothing at {path!r}; it is {str(answer)[:160]}"
            ) from None
    return found
