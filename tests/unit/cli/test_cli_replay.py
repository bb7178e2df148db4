"""``stoker ci replay`` and ``traffic``: what they choose, what they show, how they end."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_recorded import exchange, lay_down
from typer.testing import CliRunner, Result

from stoker.cli.client import Client
from stoker.cli.failure import Failure
from stoker.cli.main import app
from stoker.nouns.exchange import Message
from stoker.quality import replay as replay_module

JSON = {"content-type": "application/json"}
URL = "127.0.0.1:1"


class Stage:
    """A recording, and a platform that answers every request alike."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.answer: Any = {"n": 1}
        self.seen: list[httpx.Request] = []
        status = {"servingRevision": 7, "externalInvocationUrls": [f"{URL}/f"]}
        monkeypatch.setattr(Client, "get", lambda *_: {"status": status})
        made = partial(httpx.AsyncClient, transport=httpx.MockTransport(self._answer))
        monkeypatch.setattr(replay_module.httpx, "AsyncClient", made)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return httpx.Response(200, json=self.answer, headers={"x-stoker-replica": "f-1"})

    def record(self, *numbers: int, **fields: Any) -> None:
        made = [
            exchange(
                request=Message(JSON, b"%d" % n),
                answer=Message(JSON, b'{"n": %d}' % n),
                **{"time": 1e10 + n, **fields},
            )
            for n in numbers
        ]
        lay_down(self.folder, *made)

    def run(self, *words: str) -> Result:
        env = {"STOKER_URL": f"http://{URL}", "NO_COLOR": "1", "COLUMNS": "200"}
        command = ["ci", *words, "--record", str(self.folder)]
        return CliRunner().invoke(app, command, env=env)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path / "set", monkeypatch)


def test_equal_answers_end_with_0_and_different_ones_with_3(stage: Stage) -> None:
    stage.record(1, 1, 1)
    done = stage.run("replay", "f")
    assert done.exit_code == 0
    assert "no differences: 3 of 3 answers are the same" in done.stdout
    assert "the recorded answers  →  f revision 7" in done.stdout
    stage.answer = {"n": 2}
    changed = stage.run("replay", "f")
    assert changed.exit_code == 3
    assert "3 of 3 answers differ" in changed.stdout
    assert "1 → 2" in changed.stdout


def test_what_a_function_says_cannot_steer_the_terminal(stage: Stage) -> None:
    stage.record(1)
    stage.answer = {"n": "[red]\x1b[2J"}
    shown = stage.run("replay", "f").stdout
    assert "\x1b" not in shown
    assert "[red]" in shown


def test_the_newest_are_chosen_and_sent_in_their_order(stage: Stage) -> None:
    stage.record(1, 2, 3, 4)
    stage.run("replay", "f", "--limit", "2", "--at-once", "1")
    assert [request.content for request in stage.seen] == [b"3", b"4"]


def test_a_revision_and_a_step_are_chosen(stage: Stage) -> None:
    stage.record(1, revision=1)
    stage.record(2, revision=2, via="graph", step="flow/a")
    stage.run("replay", "f", "--against", "1")
    stage.run("replay", "f", "--step", "flow/a")
    assert [request.content for request in stage.seen] == [b"1", b"2"]
    none = stage.run("replay", "f", "--against", "9")
    assert isinstance(none.exception, Failure)
    assert "it has 1, 2" in none.exception.message


def test_what_is_declared_to_vary_and_what_is_said_to_is_ignored(stage: Stage) -> None:
    one = exchange(request=Message(JSON, b"1"), answer=Message(JSON, b'{"a": 1, "b": 1, "c": 1}'))
    lay_down(stage.folder, one, declared="share=1,ignore=a,keep=99999d")
    stage.answer = {"a": 2, "b": 2, "c": 1}
    assert stage.run("replay", "f").exit_code == 3
    assert stage.run("replay", "f", "--ignore", "b").exit_code == 0
    assert stage.run("replay", "f", "--ignore", "b..c").exit_code == 2


def test_a_report_of_an_unknown_form_is_refused_before_anything_is_sent(stage: Stage) -> None:
    stage.record(1)
    done = stage.run("replay", "f", "--report", "report.pdf")
    assert isinstance(done.exception, Failure)
    assert done.exception.exit_code == 2
    assert stage.seen == []


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_sent(
    stage: Stage, tmp_path: Path
) -> None:
    """It was refused afterwards, and what had been found was not even shown."""
    stage.record(1)
    done = stage.run("replay", "f", "--report", str(tmp_path / "nowhere" / "report.md"))
    assert isinstance(done.exception, Failure)
    assert "nowhere cannot be written to" in done.exception.message
    assert stage.seen == []


def test_a_report_has_what_differs(stage: Stage, tmp_path: Path) -> None:
    stage.record(1)
    stage.answer = {"n": "```|"}
    for name in ("r.md", "r.json"):
        stage.run("replay", "f", "--report", str(tmp_path / name))
    text = (tmp_path / "r.md").read_text()
    assert text.startswith("# Replay of f: 1 of 1 answers differ\n")
    assert "````\n" in text, "a fence that the answer cannot close"
    assert '| n | 1 | "```\\|" | 1 |' in text
    assert json.loads((tmp_path / "r.json").read_text())["different"] == 1


def test_a_candidate_that_is_not_there_is_wrong_usage(stage: Stage) -> None:
    stage.record(1)
    assert stage.run("replay", "f", "--candidate", "/nowhere/at/all").exit_code == 2


def test_nothing_recorded_says_how_to_begin(stage: Stage) -> None:
    stage.folder.mkdir()
    done = stage.run("replay", "f")
    assert isinstance(done.exception, Failure)
    assert "STOKER_RECORD" in done.exception.hint
    assert "nothing is recorded of f" in stage.run("traffic", "f").stdout


def test_what_is_recorded_is_told_and_forgotten(stage: Stage) -> None:
    stage.record(1, 2, revision=3, via="graph", step="flow/a")
    shown = stage.run("traffic", "f").stdout
    for words in ("2 requests of f", "3 (2)", "graph flow/a (2)", "100 % of the requests"):
        assert words in shown
    told = json.loads(stage.run("traffic", "f", "--json").stdout)
    assert (told["requests"], told["revisions"]) == (2, {"3": 2})
    assert stage.run("traffic", "f", "--forget").exit_code == 0
    assert json.loads(stage.run("traffic", "f", "--json").stdout)["requests"] == 0


def test_a_folder_that_is_not_there_is_said(stage: Stage) -> None:
    done = stage.run("traffic", "f")
    assert isinstance(done.exception, Failure)
    assert "--record must be a folder" in done.exception.message
