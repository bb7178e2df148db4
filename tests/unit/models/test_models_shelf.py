"""Prepared checkpoints on disk: whole or not at all, built once."""

import errno
import threading

import pytest

from stoker.models.manifest import MANIFEST
from stoker.models.shelf import Shelf
from stoker.nouns.errors import InsufficientStorage

WAIT_S = 10


def finished(folder):
    (folder / "weights").write_bytes(b"w")
    (folder / MANIFEST).write_text("{}")


def quiet(_line):
    return None


def test_a_checkpoint_is_found_only_once_it_is_whole(tmp_path):
    shelf = Shelf(tmp_path)
    seen = []

    def build(folder):
        finished(folder)
        seen.append(shelf.find("key"))

    folder = shelf.publish("key", build, needs=0, progress=quiet)
    assert seen == [None]
    assert shelf.find("key") == folder
    assert (folder / "weights").read_bytes() == b"w"


def test_two_at_once_build_it_once_and_the_other_waits(tmp_path):
    shelf, builds = Shelf(tmp_path), []
    building, go_on, told = threading.Event(), threading.Event(), threading.Event()

    def build(folder):
        builds.append(folder)
        building.set()
        assert go_on.wait(WAIT_S)
        finished(folder)

    results = []

    def publish(progress):
        results.append(shelf.publish("key", build, needs=0, progress=progress))

    first = threading.Thread(target=publish, args=(quiet,))
    first.start()
    assert building.wait(WAIT_S)
    second = threading.Thread(target=publish, args=(lambda line: told.set(),))
    second.start()
    assert told.wait(WAIT_S)
    go_on.set()
    first.join(WAIT_S)
    second.join(WAIT_S)
    assert len(builds) == 1
    assert results == [tmp_path / "key"] * 2


def test_a_build_that_fails_leaves_nothing(tmp_path):
    shelf = Shelf(tmp_path)

    def build(folder):
        (folder / "half").write_bytes(b"h")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        shelf.publish("key", build, needs=0, progress=quiet)
    assert shelf.find("key") is None
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_what_a_killed_build_left_is_cleared_away(tmp_path):
    (tmp_path / "key.tmp").mkdir()
    (tmp_path / "key.tmp" / "half").write_bytes(b"h")
    (tmp_path / "key").mkdir()
    folder = Shelf(tmp_path).publish("key", finished, needs=0, progress=quiet)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "weights"]


def test_a_disk_too_small_is_refused_before_any_work(tmp_path):
    built = []
    with pytest.raises(InsufficientStorage, match="are needed") as refused:
        Shelf(tmp_path).publish("key", built.append, needs=1 << 60, progress=quiet)
    assert built == []
    assert refused.value.detail["needed_bytes"] == 1 << 60


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("onnx write failed: No space left on device"),
    ],
)
def test_a_disk_that_runs_full_is_named_as_such_whoever_noticed(tmp_path, failure):
    def build(folder):
        (folder / "half").write_bytes(b"h")
        raise failure

    with pytest.raises(InsufficientStorage, match="too full to prepare the model"):
        Shelf(tmp_path).publish("key", build, needs=0, progress=quiet)
    assert not (tmp_path / "key.tmp").exists()


def test_a_note_that_cannot_be_read_is_no_note(tmp_path):
    shelf = Shelf(tmp_path)
    shelf.note("declaration", {"key": "k"})
    assert shelf.recall("declaration") == {"key": "k"}
    (tmp_path / "declared" / "declaration.json").write_text("{")
    assert shelf.recall("declaration") == {}
    assert shelf.recall("other") == {}
