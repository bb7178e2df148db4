"""The environment that the kernel shows of a process that was forked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stoker.worker.environ_block import ROOM, packed, padding

SHOWN = """
import os
import subprocess
import sys
from pathlib import Path
from stoker.worker import environ_block
os.environ.pop(environ_block.ROOM, None)
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-1"
os.environ["LATE"] = "yes"
environ_block.show(os.environ)
print(Path("/proc/self/environ").read_bytes().rstrip(bytes(1)).split(bytes(1)))
child = [sys.executable, "-c", "import os; print(os.environ['LATE'], os.environ['STAYS'])"]
print(subprocess.run(child, capture_output=True, text=True).stdout.strip())
"""


def test_what_matters_comes_first_and_nothing_is_cut_in_two() -> None:
    environment = {"A": "1" * 50, "NUCLIO_FUNCTION_NAME": "f", "CUDA_VISIBLE_DEVICES": "GPU-1"}
    shown = packed(environment, 60).split(bytes(1))[:-1]
    assert sorted(shown) == [b"CUDA_VISIBLE_DEVICES=GPU-1", b"NUCLIO_FUNCTION_NAME=f"]
    assert packed({ROOM: " "}, 100) == b""


@pytest.mark.parametrize("room", [{}, padding()], ids=["as it was", "with room"])
def test_a_process_shows_what_it_has_and_its_children_inherit_it(room: dict[str, str]) -> None:
    environment = {**os.environ, **room, "STAYS": "s"}
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], env=environment, capture_output=True, text=True, check=True
    )
    shown, inherited = done.stdout.splitlines()
    assert "CUDA_VISIBLE_DEVICES=GPU-1" in shown
    assert "LATE=yes" in shown or not room
    assert inherited == "yes s"
