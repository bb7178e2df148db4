"""``stoker queue``: what it asks of the control port, and what it shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stoker.cli.client import Answer, Client
from stoker.cli.main import app

GROUP = {"name": "readers", "lag": 3, "pending": 1, "dead": 2, "functions": ["shop-score"]}
STREAM = {
    "name": "projects/shop/[orders]",
    "shards": 1,
    "records": 5,
    "bytes": 2048,
    "groups": [GROUP],
    "shardStates": [
        {
            "shard": 0,
            "first": 1,
            "last": 5,
            "records": 5,
            "groups": [
                {"name": "readers", "delivered": 2, "pending": 1, "lag": 3, "consumer": "g0/f"}
            ],
        }
    ],
}
RECORD = {"shard": 0, "sequence": 4, "arrivedAt": 1.0, "bytes": 9, "text": '{"a":\n[1]}\x1b[2J'}
LETTER = RECORD | {"id": "17-0", "diedAt": 1.0, "tries": 5, "reason": "500: it raised [x]"}


class Control:
    """Answers by path, and notes what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: dict[str, Any] = {}
        monkeypatch.setattr(Client, "send", lambda _self, *words, **_: self.send(*words))

    def send(self, method: str, path: str, document: Any = None, *_: Any) -> Answer:
        self.asked.append((method, path, document))
        return Answer(200, None, json.dumps(self.answers[path.partition("?")[0]]).encode())  # type: ignore[arg-type]

    def run(self, *words: str, columns: str = "") -> Result:
        env = {"STOKER_URL": "http://h:1", "COLUMNS": columns, "NO_COLOR": "1"}
        return CliRunner().invoke(app, ["queue", *words], env=env)


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Control:
    found = Control(monkeypatch)
    found.answers = {
        "/api/streams": {"streams": [STREAM]},
        "/api/streams/projects/shop/orders": STREAM,
        "/api/streams/projects/shop/orders/records": {"records": [RECORD], "next": 5},
        "/api/streams/projects/shop/orders/dead": {
            "group": "readers",
            "total": 3,
            "dead": [LETTER],
        },
        "/api/streams/projects/shop/orders/replay": {"group": "readers", "replayed": 2},
    }
    return found


def test_the_list_fits_a_terminal_and_keeps_what_matters(control: Control) -> None:
    shown = control.run("ls", columns="80").stdout
    head, row = shown.splitlines()
    assert max(len(head), len(row)) <= 80
    for title in ("STREAM", "GROUP", "LAG", "PENDING", "DEAD"):
        assert title in head
    assert "projects/shop/[orders]" in row
    assert "shop-score" in control.run("ls").stdout
    assert json.loads(control.run("ls", "--json").stdout)[0]["groups"] == [GROUP]


def test_without_streams_it_says_where_they_come_from(control: Control) -> None:
    control.answers["/api/streams"] = {"streams": []}
    assert "queue step" in control.run("ls").stdout


def test_shards_and_records_are_shown_on_one_line_each(control: Control) -> None:
    head, row = control.run("show", "projects/shop/orders").stdout.splitlines()
    assert ("DELIVERED" in head, "g0/f" in row) == (True, True)
    shown = control.run("show", "/projects/shop/orders/", "--shard", "0", "--from", "4")
    assert control.asked[-1][1].endswith("/records?shard=0&from=4&limit=20")
    (_, record) = shown.stdout.splitlines()
    assert "\\x1b[2J" in record
    assert "⏎" in record


@pytest.mark.parametrize("verb", ["show", "dead"])
@pytest.mark.parametrize("stream", ["", "/", "foo", "projects/a//orders", "projects/"])
def test_what_names_no_stream_is_refused_before_anything_is_asked(
    control: Control, verb: str, stream: str
) -> None:
    done = control.run(verb, stream)
    assert "a stream is named <container>/<path>, was" in str(done.exception)
    assert control.asked == []


@pytest.mark.parametrize("words", [["--from", "4"], ["--limit", "1"]])
def test_records_are_chosen_of_one_shard(control: Control, words: list[str]) -> None:
    done = control.run("show", "projects/shop/orders", *words)
    assert "name it with --shard" in str(done.exception)
    assert control.asked == []


def test_dead_letters_are_listed_with_their_ids_and_reasons(control: Control) -> None:
    shown = control.run("dead", "projects/shop/orders", "--group", "readers").stdout
    assert control.asked[-1][1].endswith("/dead?group=readers&limit=20")
    assert "17-0" in shown
    assert "500: it raised [x]" in shown
    assert "+2 more" in shown


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["17-0", "18-0"], {"dead": ["17-0", "18-0"]}),
        (["--dead", "--group", "g"], {"group": "g", "dead": True}),
        (["--record", "4", "--shard", "1"], {"sequence": 4, "shard": 1}),
        (["--from", "3"], {"from": 3}),
    ],
)
def test_a_replay_says_what_to_replay(
    control: Control, words: list[str], body: dict[str, Any]
) -> None:
    done = control.run("replay", "projects/shop/orders", *words)
    assert done.exit_code == 0, done.output
    assert control.asked[-1] == ("POST", "/api/streams/projects/shop/orders/replay", body)
    assert "2 records are delivered again to readers" in done.stdout


def test_a_replay_of_the_last_minutes(control: Control) -> None:
    answer = {"group": "readers", "rewound": {"0": 7, "1": 1}}
    control.answers["/api/streams/projects/shop/orders/replay"] = answer
    done = control.run("replay", "projects/shop/orders", "--since", "10m")
    assert isinstance(control.asked[-1][2]["since"], float)
    assert "0: 7, 1: 1" in done.stdout
    assert "without its retries" in done.stdout


def test_a_replay_of_nothing_is_refused_before_anything_is_asked(control: Control) -> None:
    done = control.run("replay", "projects/shop/orders", "--shard", "0")
    assert done.exit_code != 0
    assert "say what to replay" in str(done.exception)
    wrong = control.run("replay", "projects/shop/orders", "--since", "soon")
    assert "--since" in str(wrong.exception)
    assert control.asked == []


def test_a_group_is_forgotten_by_name(control: Control) -> None:
    where = "/api/streams/projects/shop/orders/groups/old"
    control.answers[where] = {"group": "old", "dead": 2}
    done = control.run("forget", "projects/shop/orders", "old")
    assert control.asked == [("DELETE", where, None)]
    assert "old is forgotten, and 2 dead letters with it" in done.stdout
    shown = control.run("forget", "projects/shop/orders", "old", "--json").stdout
    assert json.loads(shown) == {"group": "old", "dead": 2}
