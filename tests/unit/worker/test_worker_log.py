"""A worker's log moves aside when it has become large."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.worker import log as log_module
from stoker.worker.log import LineSink, WorkerLog

Turn = tuple[WorkerLog, Path, Path]


@pytest.fixture
def turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turn]:
    """A log that looks at its size after 100 bytes and moves aside at 300."""
    monkeypatch.setattr(log_module, "CHECK_BYTES", 100)
    monkeypatch.setattr(log_module, "PART_BYTES", 300)
    path = tmp_path / "logs" / "w.log"
    log = WorkerLog(str(path), function="f", replica="r", worker=0)
    yield log, path, path.with_name("w.log.1")
    os.close(log.descriptor)


def messages(path: Path) -> list[str]:
    return [json.loads(line)["message"] for line in path.read_text().splitlines()]


def test_a_log_has_two_parts_and_no_line_is_lost_between_them(turn: Turn) -> None:
    log, path, older = turn
    number = log.descriptor
    for count in range(50):
        log.write("info", f"line {count}")
        assert path.stat().st_size + (older.stat().st_size if older.exists() else 0) < 1200
    kept = messages(older) + messages(path)
    assert kept == [f"line {count}" for count in range(50 - len(kept), 50)]
    assert log.descriptor == number
    assert not os.get_inheritable(number)


def test_what_others_wrote_to_the_descriptor_counts_too(turn: Turn) -> None:
    log, path, older = turn
    os.write(log.descriptor, b"x" * 400)
    log.keep_bounded()
    assert older.stat().st_size == 400
    assert path.stat().st_size == 0


def test_a_log_that_cannot_be_moved_goes_on_in_its_file(turn: Turn) -> None:
    log, path, older = turn
    older.mkdir()
    for count in range(10):
        log.write("info", f"line {count}")
    assert len(messages(path)) == 10


def test_a_forked_process_follows_to_the_new_file_and_never_moves_it(turn: Turn) -> None:
    log, path, older = turn
    os.write(log.descriptor, b"{}\n" * 200)
    log._owner += 1
    log.keep_bounded()
    assert not older.exists()
    os.replace(path, older)
    path.touch()
    log.keep_bounded()
    log.write("info", "followed")
    assert messages(path) == ["followed"]


class SlowLimit(int):
    """A longest line whose first comparison lasts until another thread has printed, if it can."""

    def __new__(cls) -> SlowLimit:
        return super().__new__(cls, 0)

    def __init__(self) -> None:
        self.comparing = threading.Event()
        self.printed = threading.Event()

    def __lt__(self, other: int) -> bool:
        if not self.comparing.is_set():
            self.comparing.set()
            self.printed.wait(0.2)
        return other > 0


def test_two_threads_that_print_at_once_do_not_mix_their_lines(
    turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = SlowLimit()
    monkeypatch.setattr(log_module, "_LONGEST_LINE", limit)
    log, path, _ = turn
    sink = LineSink(log, "info", 1)
    first = threading.Thread(target=sink.write, args=(b"a",))
    first.start()
    assert limit.comparing.wait(10)
    sink.write(b"b")
    limit.printed.set()
    first.join()
    assert sorted(messages(path)) == ["a", "b"]
