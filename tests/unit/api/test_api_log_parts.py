"""Reading a worker's log whose older part was moved aside."""

from __future__ import annotations

import os
import time
from pathlib import Path

from stoker.api import function_logs
from stoker.api.function_logs import LogQuery, _read
from stoker.nouns.home import Home


def test_a_followed_log_goes_on_after_it_was_moved_aside(tmp_path: Path) -> None:
    home = Home.at(str(tmp_path))
    folder = home.function_logs("f")
    folder.mkdir(parents=True)
    log = folder / "f-1.0.log"
    tails: dict[Path, function_logs._Tail] = {}
    log.write_text("one\n")
    assert _read(home, "f", "", tails) == [b"one"]
    with log.open("a") as file:
        file.write("two\n")
    os.replace(log, folder / "f-1.0.log.1")
    assert _read(home, "f", "", tails) == []
    log.write_text("three, and longer than all that was read before\n")
    assert _read(home, "f", "", tails) == [b"two", log.read_bytes().strip()]
    assert _read(home, "f", "", tails) == []
    assert _read(home, "f", "f-1", {}) == [b"one", b"two", log.read_bytes().strip()]


def test_a_log_moved_aside_twice_between_two_looks_starts_over(tmp_path: Path) -> None:
    home = Home.at(str(tmp_path))
    folder = home.function_logs("f")
    folder.mkdir(parents=True)
    log, older = folder / "f-1.0.log", folder / "f-1.0.log.1"
    tails: dict[Path, function_logs._Tail] = {}
    log.write_text("one\n")
    _read(home, "f", "", tails)
    os.replace(log, folder / "kept")
    older.write_text("lost\n")
    log.write_text("new\n")
    assert _read(home, "f", "", tails) == [b"new"]


def test_a_line_of_json_that_counts_milliseconds_does_not_hold_up_those_behind_it(
    tmp_path: Path,
) -> None:
    """What came behind it was the newest of all: last in the order, and never too old."""
    home = Home.at(str(tmp_path))
    folder = home.function_logs("f")
    folder.mkdir(parents=True)
    child = b'{"time":%d,"message":"child"}' % (time.time() * 1000)
    first, second, third = (b'{"time":%d}' % at for at in (1, 2, 3))
    (folder / "f-1.0.log").write_bytes(b"\n".join([first, child, third, b""]))
    (folder / "f-2.0.log").write_bytes(second + b"\n")
    lines = _read(home, "f", "", {})
    assert lines == [first, child, second, third]
    assert function_logs._selected(lines, LogQuery(since_s=60), now=100.0) == []
