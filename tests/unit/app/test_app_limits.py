"""What bounds the platform's processes: descriptors, the size of their logs, zombies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.app.log_bounds import cut_logs

ASK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
from stoker.app.descriptors import allow_descriptors
print(allow_descriptors(int(sys.argv[2])), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "wanted", "got"), [(512, 300, 300), (512, 4096, 512)])
def test_as_many_descriptors_are_allowed_as_the_system_lets_us(
    hard: int, wanted: int, got: int
) -> None:
    """With the 1024 that most systems begin with, a gateway refused its thousandth client."""
    command = [sys.executable, "-c", ASK, str(hard), str(wanted)]
    told = subprocess.run(command, capture_output=True, check=True, text=True)
    assert told.stdout.split() == [str(got), str(got)]


def test_a_log_is_cut_under_the_process_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway-0.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"long ago\n")
    assert cut_logs(tmp_path, limit_bytes=9) == []
    os.write(descriptor, b"yesterday\n")
    assert cut_logs(tmp_path, limit_bytes=9) == [path]
    os.write(descriptor, b"today\n")
    os.close(descriptor)
    assert path.read_bytes() == b"today\n"
    assert (tmp_path / "gateway-0.log.1").read_bytes() == b"long ago\nyesterday\n"
    assert sorted(os.listdir(tmp_path)) == ["gateway-0.log", "gateway-0.log.1"]


def test_a_log_that_cannot_be_copied_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text("kept")
    (tmp_path / "a.log.1").mkdir()
    assert cut_logs(tmp_path, limit_bytes=1) == [tmp_path / "b.log"]
    assert (tmp_path / "a.log").read_text() == "kept"
    assert "a.log cannot be cut" in caplog.text
    assert not list(tmp_path.glob(".*"))


BURY = """
import ctypes, os
from stoker.app.reaping import reap
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: as the first of a container
tell, say = os.pipe()
own = os.fork()
if own == 0:
    orphan = os.fork()
    if orphan:
        os.write(say, b"%d" % orphan)
    os._exit(7)
os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
orphan = int(os.read(tell, 16))
os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
print(reap({own}) == [orphan], reap({own}), os.waitstatus_to_exitcode(os.waitpid(own, 0)[1]))
"""


def test_of_ended_children_only_those_of_others_are_buried() -> None:
    """As the first process of a container the supervisor is given every orphan of it."""
    told = subprocess.run([sys.executable, "-c", BURY], capture_output=True, check=True, text=True)
    assert told.stdout.split() == ["True", "[]", "7"]
