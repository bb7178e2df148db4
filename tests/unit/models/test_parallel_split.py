"""A model split over real processes on the CPU answers as one process does, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import split_model
import tiny_tasks
from live_platform import eventually
from stoker.models.parallel.crew import EXIT_LOST

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("split")
    tiny_tasks.llama(made / "model")
    return made


def ran(case: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One case of `split_model`, over two ranks."""
    command = [sys.executable, split_model.__file__, case, str(folder), "2"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    done = ran("compared", folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_its_logits_are_those_of_one_process(seen: dict[str, Any]) -> None:
    assert seen["logits differ by"] < 1e-4


def test_each_rank_holds_its_part_only(seen: dict[str, Any]) -> None:
    assert seen["parameters"] < 0.52 * seen["parameters in all"]


@pytest.mark.parametrize("how", ["greedy", "sampled", "uneven", "streamed"])
def test_it_writes_what_one_process_writes(seen: dict[str, Any], how: str) -> None:
    whole, split = seen[how]
    assert whole == split
    assert any(whole)


def test_a_stream_that_was_left_leaves_the_ranks_in_step(seen: dict[str, Any]) -> None:
    assert seen["after one that was left"]


def test_a_second_model_of_the_same_worker_has_caches_of_its_own(seen: dict[str, Any]) -> None:
    assert seen["a second model"]


def test_a_call_that_fails_on_all_ranks_costs_only_itself(seen: dict[str, Any]) -> None:
    assert seen["failed together"]
    assert seen["after a failure"]


def test_all_ranks_leave_their_memory_and_take_it_again(seen: dict[str, Any]) -> None:
    assert seen["after sleep"]


def none_left(folder: Path) -> bool:
    """No peer outlives rank 0, at most for a moment."""
    pids = json.loads((folder / "peers").read_text())
    return bool(eventually(lambda: not any(map(runs, pids))))


def runs(pid: int) -> bool:
    """A zombie has ended: whoever inherited it has not looked yet."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_worker_whose_peer_is_killed_ends_and_says_why(folder: Path) -> None:
    done = ran("peer_killed", folder)
    assert done.returncode == EXIT_LOST, done.stderr
    assert "rank 1 of 2" in done.stderr
    assert "killed by signal 9" in done.stderr or "is gone" in done.stderr
    assert none_left(folder)


def test_a_peer_that_hangs_is_waited_for_so_long_and_no_longer(folder: Path) -> None:
    done = ran("peer_hangs", folder)
    assert done.returncode == EXIT_LOST, done.stderr
    assert "this rank failed alone" in done.stderr
    assert "timed out" in done.stderr.lower() or "timeout" in done.stderr.lower()
    assert none_left(folder)


def test_a_rank_that_fails_alone_ends_them_all_rather_than_answering_wrong(folder: Path) -> None:
    done = ran("failed_alone", folder)
    assert done.returncode == EXIT_LOST, done.stderr
    assert "this rank failed alone: MemoryError: only here" in done.stderr
    assert none_left(folder)
