"""What the benchmarks read, what they write, and what they print."""

from __future__ import annotations

import datetime
import json

import pytest
from bench.__main__ import OWN, arguments, chosen
from bench.archive import keep
from bench.latency import complete
from bench.load import Generator, parse
from bench.machine import busy, share
from bench.peer_specs import PEERS
from bench.plot import bars
from bench.result import CannotRun, Figure, Result, at_least
from bench.table import number, table
from rich.console import Console

LINE = (
    'WRK {"requests": 300, "duration_us": 2000000, "p50_us": 1, "p90_us": 2, "p99_us": 3, '
    '"max_us": 4, "bad_status": 100, "socket_errors": 0}'
)


def test_errors_do_not_count_as_throughput():
    assert parse(f"Running 2s test\n{LINE}\nRequests/sec: 150\n").per_second == 100


def test_a_generator_that_said_nothing_readable_is_no_figure():
    with pytest.raises(CannotRun, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_weaker_generator_says_that_it_is_weaker():
    assert Generator("/usr/bin/wrk", (0,)).name == "wrk"
    assert "weaker" in Generator(None, (0,)).name


@pytest.mark.parametrize(
    ("available", "serving", "loading"),
    [({0}, (0,), (0,)), ({0, 1}, (0, 1), (0, 1)), (range(8), (0, 1), (2, 3))],
)
def test_serving_and_loading_share_cores_only_where_they_must(available, serving, loading):
    cores = share(set(available))

    assert (cores.serving, cores.loading) == (serving, loading)


def test_figures_from_a_busy_machine_come_with_a_notice():
    assert busy(0.1, 2) == ""
    assert "busy (load 3.5 on 2 cores)" in busy(3.5, 2)


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\no", False),
        (b"HTTP/1.1 200 OK\r\ncontent-len", False),
    ],
)
def test_an_answer_is_whole_with_its_last_byte(answer, whole):
    assert complete(answer) is whole


def test_an_answer_without_a_length_cannot_be_timed():
    with pytest.raises(CannotRun, match="content length"):
        complete(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_a_run_of_one_benchmark_keeps_the_figures_of_the_others(tmp_path):
    day = datetime.datetime(2026, 5, 4, 3, 2, 1, tzinfo=datetime.UTC)
    keep([Result("wake", [Figure("p95", 90, "ms")])], tmp_path, {"cores": [0]}, day)
    keep([Result("echo")], tmp_path, {"cores": [0]}, day + datetime.timedelta(days=1))

    latest = json.loads((tmp_path / "latest.json").read_text())
    assert set(latest) == {"wake", "echo"}
    assert latest["wake"]["when"].startswith("2026-05-04")
    assert latest["wake"]["figures"][0]["value"] == 90
    assert json.loads((tmp_path / "echo-2026-05-05.json").read_text())["cores"] == [0]


def test_the_table_shows_a_missed_target_as_missed_and_what_was_not_run_as_not_run():
    missed = Figure("rate", 10, "req/s", reference=40, ratio=0.25, target=at_least(0.5))
    console = Console(width=120, record=True)
    console.print(table([Result("echo", [missed], not_run={"Mosec": "pip said no"})]))
    text = console.export_text()

    assert "≥ 0.5×" in text
    assert " no " in text
    assert "Mosec: not run" in text
    assert "pip said no" in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.00251, "0.00251"), (150.0, "150"), (1234.5, "1,234"), (None, "")]
)
def test_numbers_have_three_digits_that_matter(value, text):
    assert number(value) == text


def test_only_what_is_named_is_run_and_peers_are_a_run_of_their_own():
    assert chosen(arguments([])) == OWN
    assert "peers" not in OWN
    assert chosen(arguments(["--peers"])) == ("peers",)
    assert chosen(arguments(["--only", "wake", "echo"])) == ("wake", "echo")


def test_an_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        arguments(["--only", "wakes"])
    assert "wakes" in capsys.readouterr().err


def test_every_peer_is_pinned_and_has_its_app():
    for peer in PEERS:
        assert "==" in peer.requirements[0]
        assert peer.times >= 2
        assert peer.variables(9000)["ECHO_PORT"] == "9000"
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_the_picture_shows_shares_of_the_bare_server_fastest_first():
    rounds = {"bare": [100, 200], "stoker": [60, 140], "peer": [10, 20]}

    assert bars({"Slow": rounds}) == {
        "bare uvloop + httptools": 1.0,
        "Stoker": pytest.approx(0.65),
        "Slow": 0.1,
    }
