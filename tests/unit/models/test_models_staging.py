"""One host copy of weights for all workers that sleep with them."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stoker.models import staging as room  # noqa: E402
from stoker.models.host_copy import HostCopy  # noqa: E402
from stoker.models.staging import staging, sweep  # noqa: E402

pytestmark = pytest.mark.models


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Shared memory of the test's own: a folder does, where nothing is pinned."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr(room, "SHARED_MEMORY", folder)
    return folder


def weights(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(300, 70), torch.nn.Linear(70, 5))


def files(memory: Path) -> list[Path]:
    return sorted(memory.iterdir())


def test_two_workers_with_the_same_weights_keep_one_copy(tmp_path: Path, memory: Path) -> None:
    one, other = HostCopy(weights(), tmp_path, "key"), HostCopy(weights(), tmp_path, "key")
    one.sleep()
    other.sleep()
    assert one.shared
    assert other.shared
    assert len(files(memory)) == 1


def test_what_comes_back_is_the_same_to_the_bit(tmp_path: Path) -> None:
    first, second = weights(), weights()
    inputs = torch.randn(3, 300)
    with torch.inference_mode():
        before = first(inputs)
        for module in (first, second):
            copy = HostCopy(module, tmp_path, "key")
            for _ in range(3):
                copy.sleep()
                copy.wake()
            assert torch.equal(module(inputs), before)


def test_other_weights_under_the_same_name_come_back_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = weights(seed=0), weights(seed=1)
    mine = other[0].weight.clone()
    HostCopy(one, tmp_path, "key").sleep()
    copy = HostCopy(other, tmp_path, "key")
    copy.sleep()
    copy.wake()
    assert not copy.shared
    assert torch.equal(other[0].weight, mine)
    assert "differ from those that another worker keeps" in caplog.text


def test_another_home_shares_nothing(tmp_path: Path, memory: Path) -> None:
    homes = [tmp_path / "a", tmp_path / "b"]
    copies = [HostCopy(weights(), home, "key") for home in homes]
    for copy in copies:
        copy.sleep()
    assert len(files(memory)) == 2


def test_without_room_a_worker_keeps_a_copy_of_its_own(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    module = weights()
    mine = module[0].weight.clone()
    copy = HostCopy(module, tmp_path, "key")
    copy.sleep()
    copy.wake()
    assert not copy.shared
    assert torch.equal(module[0].weight, mine)
    assert files(memory) == []


def test_what_nobody_holds_any_more_is_swept_and_what_is_held_stays(
    tmp_path: Path, memory: Path
) -> None:
    held = staging(tmp_path, "held", 100)
    assert held is not None
    held.publish()
    left = staging(tmp_path, "left", 100)
    assert left is not None
    left.publish()
    left.abandon()
    assert sweep(tmp_path) == 1
    assert len(files(memory)) == 1
    held.abandon()
    assert sweep(tmp_path) == 1
    assert files(memory) == []


def test_a_copy_whose_maker_died_half_way_is_made_anew(tmp_path: Path) -> None:
    half = staging(tmp_path, "key", 100)
    assert half is not None
    half.map[room.PAGE : room.PAGE + 50] = b"x" * 50
    half.abandon()
    again = staging(tmp_path, "key", 100)
    assert again is not None
    assert not again.filled


def _fill(home: Path, memory: Path, begun: object) -> None:
    room.SHARED_MEMORY = memory
    found = staging(home, "key", 100)
    assert found is not None
    begun.set()  # type: ignore[attr-defined]
    found.map[room.PAGE : room.PAGE + 3] = b"abc"
    found.publish()


def test_who_comes_while_it_is_being_filled_waits_for_all_of_it(
    tmp_path: Path, memory: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_fill, args=(tmp_path, memory, begun))
    process.start()
    assert begun.wait(30)
    found = staging(tmp_path, "key", 100)
    process.join(30)
    assert found is not None
    assert found.filled
    assert found.map[room.PAGE : room.PAGE + 3] == b"abc"


def test_only_its_owner_may_read_it(tmp_path: Path, memory: Path) -> None:
    found = staging(tmp_path, "key", 100)
    assert found is not None
    assert files(memory)[0].stat().st_mode & 0o777 == 0o600
