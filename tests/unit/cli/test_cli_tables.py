"""Tables and lines for people: what fits 80 columns, what is cut, what is written out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stoker.cli import listing
from stoker.cli.client import Client
from stoker.cli.function_verbs import log_line
from stoker.cli.listing import screen
from stoker.cli.main import app

MESSAGE = "RuntimeError: no [model] in \x1b[2J /data/" + "x" * 80 + "\nTraceback"


PHASES = ("starting", "ready", "draining")


def function(name: str = "text-classification", **other: Any) -> dict[str, Any]:
    state = other.get("state", "scaledToZero")
    return {
        "name": f"news-{name}",
        "project": "news",
        "state": state,
        "shownState": state,
        "message": "",
        "url": f"http://127.0.0.1:8080/news-{name}",
        "revision": 2,
        "servingRevision": 1,
        "maxReplicas": 2,
        "replicas": {"starting": 1, "ready": 1, "draining": 0},
        "inFlight": 1,
        "waiting": 0,
        "oldestWaitS": 0.0,
        "ratePerS": 1234.5,
        "errorShare": 0.25,
        "coldStarts": 12,
        "wakeP90S": 1.5,
        "lastActive": 0.0,
    } | other


def device(**other: Any) -> dict[str, Any]:
    return {
        "id": "GPU-6a1b2c3d-0000-1111-2222-333344445555",
        "name": "NVIDIA H100 80GB HBM3",
        "kind": "cuda",
        "capability": "9.0",
        "lost": False,
        "total_bytes": 80 * 2**30,
        "promised_bytes": 20 * 2**30,
        "foreign_bytes": 40 * 2**30,
        "used_bytes": 55 * 2**30,
        "utilisation": 0.5,
        "replicas": ["news-tex-1a2b3c4d"],
    } | other


def replica() -> dict[str, Any]:
    worker = {"index": 0, "pid": 1234567, "phase": "starting", "devices": ["0", "1"]}
    worker |= {"rssBytes": 3 * 2**29, "pssBytes": 2**29, "startedAt": 1.0}
    names = {"id": "news-tex-1a2b3c4d", "function": "news-text-classification"}
    return names | {"revision": 2, "phase": "ready", "workers": [worker]}


def told(monkeypatch: pytest.MonkeyPatch, columns: str, *verb: str, **answer: Any) -> Result:
    monkeypatch.setattr(Client, "get", lambda *_: {"version": "0.1.0", "devices": []} | answer)
    return CliRunner().invoke(app, verb, env={"STOKER_URL": "http://h:1", "COLUMNS": columns})


@pytest.mark.parametrize(
    ("verb", "left_out", "kept"),
    [
        ("ls", ["URL"], ["NAME", "PROJECT", "STATE", "REV", "READY", "MAX", "5XX"]),
        ("ps", ["RSS", "DEVICES"], ["REPLICA", "FUNCTION", "PID", "STATE", "PSS"]),
        (
            "top",
            ["WAKE P90"],
            ["FUNCTION", "STATE", "READY", "IN FLIGHT", "WAITING", "RATE", "5XX"],
        ),
    ],
)
def test_a_table_leaves_out_columns_until_it_fits(
    monkeypatch: pytest.MonkeyPatch, verb: str, left_out: list[str], kept: list[str]
) -> None:
    answer = {"functions": [function()], "replicas": [replica()]}
    narrow = told(monkeypatch, "80", verb, **answer).stdout
    wide = told(monkeypatch, "", verb, **answer).stdout
    lines = narrow.splitlines()
    assert max(map(len, lines)) <= 80
    assert narrow.endswith("\n")
    assert all(line == line.rstrip() for line in [*lines, *wide.splitlines()])
    assert "news-text-classification" in narrow
    assert all(column in narrow for column in kept)
    assert not any(column in narrow.split() for column in left_out)
    assert all(column in wide for column in [*kept, *left_out])


def test_ready_replicas_stand_beside_their_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    header, row = told(monkeypatch, "80", "ls", functions=[function()]).stdout.splitlines()
    assert header.split()[-3:] == ["READY", "MAX", "5XX"]
    assert row.split()[-5:-1] == ["1→2", "1", "~1", "2"]


@pytest.mark.parametrize("verb", ["ls", "top"])
@pytest.mark.parametrize(
    ("share", "shown"), [(None, "-"), (0.0, "0%"), (0.001, "<1%"), (0.25, "25%"), (1.0, "100%")]
)
def test_what_share_of_a_functions_answers_failed_is_seen(
    monkeypatch: pytest.MonkeyPatch, verb: str, share: float | None, shown: str
) -> None:
    functions = [function(errorShare=share, wakeP90S=7.0, replicas=dict.fromkeys(PHASES, 0))]
    *_, header, row = told(monkeypatch, "80", verb, functions=functions).stdout.splitlines()
    end = header.index("5XX") + len("5XX")
    assert row[:end].split()[-1] == shown


@pytest.mark.parametrize(("share", "style"), [(0.0, ""), (0.04, "yellow"), (0.05, "red")])
def test_errors_are_coloured(share: float, style: str) -> None:
    seen = {"version": "0.1.0", "functions": [function(errorShare=share)], "devices": []}
    drawn = screen(seen)
    place = drawn.plain.rindex("%")
    assert {str(span.style) for span in drawn.spans if span.start <= place < span.end} - {""} == (
        {style} - {""}
    )


def test_ls_says_what_a_function_waits_for_on_its_way_from_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = "waitingForScaleResourceFromZero"
    functions = [
        function("a", state=state, message="waiting for GPU memory held by w1-5418d635"),
        function("b", state=state),
    ]
    *_, row, last = told(monkeypatch, "", "ls", functions=functions).stdout.splitlines()
    assert row.startswith("news-b ")
    assert last == "news-a: waiting for GPU memory held by w1-5418d635"


@pytest.mark.parametrize("state", ["error", "unhealthy"])
def test_ls_says_why_a_function_is_not_well(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    functions = [function("a", state=state, message=MESSAGE), function("b", message="an old one")]
    *_, last = told(monkeypatch, "80", "ls", functions=functions).stdout.splitlines()
    assert last.startswith(r"news-a: RuntimeError: no [model] in \x1b[2J /data/xxx")
    assert (len(last), last[-1]) == (80, "…")
    *_, last = told(monkeypatch, "", "ls", functions=functions).stdout.splitlines()
    assert last.endswith("x" * 80)
    silent = [function("a", state=state)]
    assert "news-a: stoker logs news-a" in told(monkeypatch, "80", "ls", functions=silent).stdout


def test_a_function_that_sleeps_is_said_to_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nuclio's word for it is `scaledToZero`, which in a table says that its processes are gone."""
    sleeps = function("a", shownState="asleep", message="asleep: its processes live")
    shown = told(monkeypatch, "80", "ls", functions=[sleeps, function("b")]).stdout
    rows = {line.split()[0]: line for line in shown.splitlines()}
    assert " asleep " in rows["news-a"]
    assert " scaledToZero " in rows["news-b"]
    assert "news-a: asleep: its processes live" in shown
    drawn = screen({"version": "0.1.0", "functions": [sleeps], "devices": []}).plain
    assert " asleep " in drawn
    assert "scaledToZero" not in drawn


def test_ls_says_what_the_largest_requests_of_a_ready_function_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hungry = function("a", state="ready", message="its largest requests need 40 GiB on a GPU")
    shown = told(monkeypatch, "", "ls", functions=[hungry]).stdout
    assert "news-a: its largest requests need 40 GiB on a GPU" in shown


def test_top_says_how_many_functions_it_has_no_rows_for() -> None:
    seen = {"version": "0.1.0", "functions": [function(f"f{i}") for i in range(30)]}
    seen["devices"] = [device()]
    lines = screen(seen, 80, 20).plain.splitlines()
    assert len(lines) == 20
    drawn = sum(line.startswith("news-f") for line in lines)
    assert f"+{30 - drawn} more" in lines
    assert lines[-1].startswith("GPU-6a1b2c3d ")
    assert "more" not in screen(seen, 80, 60).plain
    assert "more" not in screen(seen, 80).plain
    assert "more" not in screen(seen | {"functions": seen["functions"][:13]}, 80, 20).plain
    assert "+2 more" in screen(seen | {"functions": seen["functions"][:15]}, 80, 20).plain


def test_top_shows_what_is_promised_of_a_device_and_what_others_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = [device(), device(id="SIM-1", lost=True, utilisation=None)]
    wide = told(monkeypatch, "", "top", functions=[], devices=devices).stdout.splitlines()
    narrow = told(monkeypatch, "80", "top", functions=[], devices=devices).stdout.splitlines()
    assert max(map(len, narrow)) <= 80
    facts = ("GPU-6a1b2c3d", "80.0 GiB", "20.0 GiB", "40.0 GiB", "55.0 GiB", "50%")
    assert all(fact in narrow[-2] for fact in facts)
    assert all(fact in wide[-2] for fact in (*facts, "NVIDIA H100 80GB HBM3", "cuda", "9.0"))
    assert wide[-2].split()[-1] == "█" * 4 + "▒" * 8 + "░" * 4
    assert (wide[-1].split()[0], wide[-1].split()[-1]) == ("SIM-1", "lost")


def test_top_in_a_pipe_ends_every_round_with_a_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing.time, "sleep", lambda _: None)
    said = told(monkeypatch, "", "top", "-n", "2", functions=[function()]).stdout
    assert said.count("FUNCTION") == 2
    assert said.endswith("\n")
    assert not said.endswith("\n\n")


@pytest.mark.parametrize("raw", [True, False])
def test_a_log_cannot_steer_the_terminal(raw: bool) -> None:
    text = "a\x1b]0;title\x07b\r\x9b2J\tc\nd"
    shown = r"a\x1b]0;title\x07b\x0d\x9b2J" + "\tc\nd"
    if raw:
        assert log_line(text).plain == shown
        return
    entry = dict.fromkeys(("message", "level", "replica", "worker", "request_id"), text)
    plain = log_line(json.dumps(entry | {"with": {text: text}})).plain
    assert plain.count(shown) == 6
    assert not set(plain) & set("\x1b\x07\r\x9b")


def test_logs_as_json_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    line = b'{"message": "a\\u001bb"}\n\x1b raw\n'
    monkeypatch.setattr(Client, "lines", lambda *_, **__: iter(line.splitlines(keepends=True)))
    env = {"STOKER_URL": "http://h:1"}
    assert CliRunner().invoke(app, ["logs", "x", "--json"], env=env).stdout_bytes == line
    people = CliRunner().invoke(app, ["logs", "x"], env=env).stdout
    assert r"a\x1bb" in people
    assert people.endswith("\\x1b raw\n")
