"""The files of recorded traffic: bounded in bytes and age, whoever writes to them."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from stoker.nouns.recording import RecordingSpec
from stoker.worker.segments import Segments

BODY = 1024
LINE = b"x" * 1023 + b"\n"


def spec(kib: int = 64, **fields: float) -> RecordingSpec:
    return RecordingSpec.model_validate(
        {"share": 1, "max": kib * 1024, "body": BODY, "redact": [], **fields}
    )


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def numbered(first: int, last: int) -> list[bytes]:
    return [f"{n:06}".encode().ljust(1023, b".") + b"\n" for n in range(first, last)]


def numbers(folder: Path) -> list[int]:
    return [int(line[:6]) for path in files(folder) for line in path.read_bytes().splitlines()]


def test_the_set_never_outgrows_its_bound_and_the_oldest_makes_room(tmp_path: Path) -> None:
    segments = Segments(tmp_path, spec(64), "w")
    for n in range(200):
        segments.append(numbered(n, n + 1))
        assert total(tmp_path) <= 64 * 1024
    kept = numbers(tmp_path)
    assert kept == list(range(kept[0], 200))
    assert len(kept) >= 64 - 8


def test_two_workers_share_one_bound(tmp_path: Path) -> None:
    first, second = (Segments(tmp_path, spec(64), name) for name in "ab")
    for n in range(100):
        first.append(numbered(n, n + 1))
        second.append(numbered(1000 + n, 1001 + n))
        assert total(tmp_path) <= 64 * 1024
    kept = set(numbers(tmp_path))
    assert {99, 1099} <= kept


def test_while_one_worker_counts_the_folder_no_other_writes_to_it(tmp_path: Path) -> None:
    segments = Segments(tmp_path, spec(64), "w")
    writing = threading.Thread(target=segments.append, args=([LINE],))
    with (tmp_path / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writing.start()
        writing.join(0.1)
        assert writing.is_alive()
        assert files(tmp_path) == []
    writing.join(10)
    assert total(tmp_path) == len(LINE)


def test_a_worker_whose_segment_made_room_for_another_goes_on_in_a_new_one(tmp_path: Path) -> None:
    quiet, busy = (Segments(tmp_path, spec(64), name) for name in "qb")
    quiet.append(numbered(7, 8))
    busy.append(numbered(1000, 1100))
    assert 7 not in numbers(tmp_path)
    quiet.append(numbered(8, 9))
    assert 8 in numbers(tmp_path)


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "traffic" / "f"
    Segments(folder, spec(), "w").append([LINE])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}


def test_what_is_too_old_is_deleted_by_whoever_looks_next(tmp_path: Path) -> None:
    segments = Segments(tmp_path, spec(keep="1h"), "w")
    segments.append([LINE])
    segments.close()
    (old,) = files(tmp_path)
    os.utime(old, (1e9, 1e9))
    Segments(tmp_path, spec(keep="1h"), "later").tidy()
    assert files(tmp_path) == []


def test_the_hashes_key_outlives_a_worker_and_is_not_the_next_sets(tmp_path: Path) -> None:
    one = Segments(tmp_path / "a", spec(), "w").key
    assert Segments(tmp_path / "a", spec(), "x").key == one
    assert Segments(tmp_path / "b", spec(), "w").key != one


def test_the_declaration_lies_beside_the_segments(tmp_path: Path) -> None:
    Segments(tmp_path, spec(128), "w")
    about = json.loads((tmp_path / "about.json").read_text())
    assert RecordingSpec.model_validate(about) == spec(128)


def test_a_line_longer_than_the_whole_set_is_refused_and_spoils_nothing(tmp_path: Path) -> None:
    segments = Segments(tmp_path, spec(64), "w")
    assert segments.append([LINE, b"y" * 65 * 1024, LINE]) == 1
    assert total(tmp_path) == 2 * len(LINE)


def test_a_folder_that_is_gone_is_an_error_not_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    segments = Segments(folder, spec(), "w")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(OSError, match="No such file"):
        segments.append([LINE])
    assert not folder.exists()
