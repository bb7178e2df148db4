"""Reading a set of recorded traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stoker.nouns.exchange import Exchange, Message
from stoker.nouns.recording import RecordingSpec
from stoker.quality import recorded
from stoker.worker.segments import Segments

NOW = 1_700_000_000.0


def exchange(time: float = NOW, **fields: Any) -> Exchange:
    given = {
        "function": "f",
        "revision": 1,
        "via": "gateway",
        "step": "",
        "method": "POST",
        "path": "/",
        "request": Message({}, b"a"),
        "status": 200,
        "answer": Message({}, b"b"),
    }
    return Exchange(time=time, **{**given, **fields})


def lay_down(folder: Path, *exchanges: Exchange, declared: str = "share=1,keep=1h") -> None:
    segments = Segments(folder, RecordingSpec.read(declared), "w")
    segments.append([one.line() for one in exchanges])
    segments.close()


def test_what_workers_write_is_read_in_order(tmp_path: Path) -> None:
    lay_down(tmp_path, *(exchange(NOW + n, path=f"/{n}") for n in range(5)))
    assert [one.path for one in recorded.read(tmp_path, now=NOW)] == [f"/{n}" for n in range(5)]


def test_a_torn_line_is_left_out_and_counted(tmp_path: Path) -> None:
    lay_down(tmp_path, exchange(), exchange())
    (segment,) = recorded.segments(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-20])
    assert len(list(recorded.read(tmp_path, now=NOW))) == 1
    seen = recorded.describe(tmp_path, now=NOW)
    assert (seen.requests, seen.unreadable) == (1, 1)


def test_what_is_older_than_declared_is_not_given_out(tmp_path: Path) -> None:
    lay_down(tmp_path, exchange(NOW - 3601), exchange(NOW - 3599))
    assert [one.time for one in recorded.read(tmp_path, now=NOW)] == [NOW - 3599]
    assert recorded.describe(tmp_path, now=NOW).requests == 1


def test_a_revision_and_a_step_are_chosen(tmp_path: Path) -> None:
    lay_down(
        tmp_path,
        exchange(revision=1),
        exchange(revision=2, via="graph", step="flow/a"),
        exchange(revision=2, via="graph", step="flow/b", altered=("mask x",)),
    )
    assert len(list(recorded.read(tmp_path, revision=2, now=NOW))) == 2
    assert [one.step for one in recorded.read(tmp_path, step="flow/b", now=NOW)] == ["flow/b"]
    seen = recorded.describe(tmp_path, now=NOW)
    assert seen.revisions == {1: 1, 2: 2}
    assert seen.senders == {"gateway": 1, "graph flow/a": 1, "graph flow/b": 1}
    assert (seen.altered, seen.first, seen.last) == (1, NOW, NOW)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert list(recorded.read(nowhere)) == []
    assert recorded.describe(nowhere).requests == 0
    assert recorded.forget(nowhere) == 0
    assert not nowhere.exists()


def test_what_is_forgotten_is_gone_and_a_worker_goes_on(tmp_path: Path) -> None:
    segments = Segments(tmp_path, RecordingSpec.read("share=1"), "w")
    line = exchange().line()
    segments.append([line])
    assert recorded.forget(tmp_path) == len(line)
    assert list(recorded.read(tmp_path, now=NOW)) == []
    segments.append([exchange(path="/later").line()])
    assert [one.path for one in recorded.read(tmp_path, now=NOW)] == ["/later"]


def test_answers_to_a_replay_are_held_to_the_rules_of_the_recording(tmp_path: Path) -> None:
    lay_down(tmp_path, declared="share=1,hash=mail")
    rules = recorded.redactor(tmp_path)
    assert rules is not None
    body = json.dumps({"mail": "ann@home"}).encode()
    once = rules.message(Message({}, body)).body
    again = recorded.redactor(tmp_path)
    assert again is not None
    assert again.message(Message({}, body)).body == once
    lay_down(tmp_path / "none")
    assert recorded.redactor(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "[]", '{"share": 9}', "\xff"])
def test_a_declaration_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "about.json").write_text(text)
    assert recorded.declaration(tmp_path) is None
