"""Replaying recorded requests: what is sent, what counts as an answer, what is reported."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_recorded import exchange

from stoker.decide.compare import CompareRules
from stoker.decide.redact import Redactor
from stoker.nouns.exchange import Exchange, Message
from stoker.nouns.recording import RecordingSpec
from stoker.quality import replay as module
from stoker.quality.package import Package
from stoker.quality.replay import Plan, Target, replay
from stoker.quality.replay_result import ReplayResult

JSON = {"content-type": "application/json"}
OURS = {**JSON, "x-stoker-replica": "f-1"}
Answer = Callable[[httpx.Request], Any]


def asked(body: Any, answer: Any, **fields: Any) -> Exchange:
    return exchange(
        request=Message(JSON, json.dumps(body).encode()),
        answer=Message(JSON, json.dumps(answer).encode()),
        **fields,
    )


class Stage:
    """Targets in memory, by host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[httpx.Request] = []
        transport = httpx.MockTransport(self._answer)
        made = partial(httpx.AsyncClient, transport=transport)
        monkeypatch.setattr(module.httpx, "AsyncClient", made)
        monkeypatch.setattr(module, "_PAUSE_S", 0.0)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self.answers[request.url.host](request)
        return await answer if inspect.isawaitable(answer) else answer

    def replay(self, exchanges: Iterable[Exchange], **plan: Any) -> ReplayResult:
        if "baseline" in plan:
            plan["baseline"] = Target("old", "http://old/f")
        given = Plan("f", Target("new", "http://new/f", {"x-api-key": "k"}), **plan)
        return asyncio.run(replay(exchanges, given))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def saying(status: int, document: Any, headers: dict[str, str] | None = None) -> Answer:
    return lambda _: httpx.Response(status, json=document, headers=headers or OURS)


def test_the_request_is_sent_as_it_was_recorded(stage: Stage) -> None:
    stage.answers["new"] = saying(200, {})
    one = exchange(
        method="PUT",
        path="/a%2Fb/ü?x=%20&y=1+2",
        request=Message({"content-type": "text/csv", "accept": "text/event-stream"}, b"\xff\x00"),
    )
    stage.replay([one])
    (sent,) = stage.seen
    assert sent.url.raw_path == b"/f/a%2Fb/%FC?x=%20&y=1+2"
    assert (sent.method, sent.content) == ("PUT", b"\xff\x00")
    assert sent.headers["content-type"] == "text/csv"
    assert sent.headers["accept"] == "*/*"
    assert (sent.headers["x-stoker-replay"], sent.headers["x-api-key"]) == ("1", "k")


def test_the_recorded_answers_are_the_baseline(stage: Stage) -> None:
    stage.answers["new"] = lambda request: httpx.Response(
        200, content=b'{"n": %d}' % json.loads(request.content), headers=OURS
    )
    found = stage.replay([asked(n, {"n": n + (n == 3)}) for n in range(6)])
    assert (found.identical, found.different, found.exit_code) == (5, 1, 3)
    (item,) = found.items
    assert (item.item, item.places[0].path) == (3, "n")
    assert (item.baseline, item.candidate) == ('{"n": 4}', '{"n": 3}')
    assert found.words == "1 of 6 answers differ"


def test_two_live_targets_are_compared_with_each_other(stage: Stage) -> None:
    stage.answers |= {"old": saying(200, {"v": 1}), "new": saying(200, {"v": 1 + 1e-8})}
    found = stage.replay([asked(1, {"recorded": "otherwise"})], baseline=True)
    assert (found.within, found.exit_code, found.baseline) == (1, 0, "old")
    assert 0 < found.largest <= 1e-6


def test_the_most_different_come_first_and_the_rest_is_only_counted(stage: Stage) -> None:
    stage.answers["new"] = saying(200, {"v": 0.0})
    found = stage.replay([asked(n, {"v": n / 100}) for n in range(1, 41)])
    assert found.different == 40
    assert [item.item for item in found.items[:3]] == [39, 38, 37]
    assert len(found.items) == 20


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_target_that_has_no_worker_free_is_asked_again(stage: Stage, status: int) -> None:
    refusals = iter([saying(status, {"error": {"code": "c", "message": "m"}}, JSON)] * 3)
    stage.answers["new"] = lambda request: next(refusals, saying(200, {"n": 1}))(request)
    found = stage.replay([asked(1, {"n": 1})])
    assert (found.identical, len(stage.seen)) == (1, 4)


def test_a_refusal_for_good_is_a_failure_and_not_an_answer(stage: Stage) -> None:
    error = {"error": {"code": "function_not_found", "message": "no function 'f'"}}
    stage.answers["new"] = saying(404, error, JSON)
    found = stage.replay([asked(1, error, status=404)])
    assert (found.failed, found.identical, found.exit_code) == (1, 0, 3)
    assert found.items[0].error == "new: 404 function_not_found: no function 'f'"


def test_what_the_handler_answers_is_an_answer_whatever_its_status(stage: Stage) -> None:
    stage.answers["new"] = saying(503, {"error": {"code": "own", "message": "m"}})
    body = {"error": {"code": "own", "message": "m"}}
    found = stage.replay([asked(1, body, status=503)])
    assert (found.identical, len(stage.seen)) == (1, 1)


def test_a_target_that_cannot_be_reached_fails_each_request(stage: Stage) -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    stage.answers["new"] = gone
    found = stage.replay([asked(n, n) for n in range(3)])
    assert (found.failed, found.exit_code) == (3, 3)


def test_the_ids_of_failed_requests_are_no_difference(stage: Stage) -> None:
    def failing(name: str) -> Answer:
        error = {"code": "handler_failed", "message": "no", "request_id": name}
        return saying(500, {"error": error})

    stage.answers |= {"old": failing("a"), "new": failing("b")}
    assert stage.replay([asked(1, 1)], baseline=True).identical == 1


def test_what_differs_because_its_request_was_redacted_proves_nothing(stage: Stage) -> None:
    stage.answers["new"] = saying(200, {"size": 8})
    hidden = asked({"mail": "********"}, {"size": 13}, altered=("mask mail",))
    found = stage.replay([hidden])
    assert (found.altered, found.different, found.exit_code) == (1, 0, 1)
    assert len(found.notes) == 2
    plain = stage.replay([hidden, asked({}, {"size": 13})])
    assert (plain.altered, plain.different, plain.exit_code) == (1, 1, 3)
    assert [item.outcome for item in plain.items] == ["different", "altered"]
    stage.answers["old"] = saying(200, {"size": 9})
    assert stage.replay([hidden], baseline=True).different == 1


def test_new_answers_are_redacted_before_they_are_shown(stage: Stage) -> None:
    rules = Redactor(RecordingSpec.read("share=1,mask=mail"), b"k")
    stage.answers["new"] = saying(200, {"mail": "ann@home", "n": 2})
    found = stage.replay([asked({}, {"mail": "********", "n": 1})], redactor=rules)
    assert [place.path for place in found.items[0].places] == ["n"]
    assert "ann@home" not in found.model_dump_json()
    stage.answers["new"] = lambda _: httpx.Response(200, content=b"ann@home", headers=OURS)
    unreadable = stage.replay([asked({}, {"n": 1})], redactor=rules)
    assert unreadable.different == 1
    assert "ann@home" not in unreadable.model_dump_json()


def test_what_is_ignored_is_not_compared(stage: Stage) -> None:
    stage.answers["new"] = saying(200, {"id": "b", "n": 1})
    rules = CompareRules(ignore=("id",))
    assert stage.replay([asked({}, {"id": "a", "n": 1})], rules=rules).identical == 1


def test_no_more_are_in_flight_than_allowed(stage: Stage) -> None:
    running = peak = 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return httpx.Response(200, json=1, headers=OURS)

    stage.answers["new"] = slow
    found = stage.replay([asked(n, 1) for n in range(20)], at_once=3)
    assert (found.identical, peak) == (20, 3)


def test_nothing_at_all_is_not_called_equal(stage: Stage) -> None:
    found = stage.replay([])
    assert (found.sent, found.exit_code, found.words) == (0, 1, "nothing was compared")


def test_a_trial_of_a_function_that_is_recorded_is_not(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (tmp_path / "function.yaml").write_text(
        "metadata: {name: f}\n"
        "spec:\n"
        "  handler: main:handler\n"
        "  env: [{name: STOKER_RECORD, value: share=1}, {name: A, value: b}]\n"
    )
    document = Package.read(tmp_path).trial("f", "replay-1", {}, "default")
    assert document["spec"]["env"] == [{"name": "A", "value": "b"}]
