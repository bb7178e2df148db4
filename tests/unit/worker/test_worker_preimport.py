"""What keeps a zygote's forks safe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stoker.worker import preimport
from stoker.worker.preimport import ENVIRONMENT, fork_hazard, open_files


def test_a_process_that_touched_cuda_must_not_be_forked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By whichever library: only the device file that all of them hold open tells."""
    one_thread = ["1"]
    monkeypatch.setattr(preimport.os, "listdir", lambda _: one_thread)
    assert fork_hazard() == ""
    device = tmp_path / "nvidia-uvm"
    device.touch()
    monkeypatch.setattr(preimport, "CUDA_DEVICE", str(device))
    assert fork_hazard() == ""
    with device.open():
        assert str(device) in open_files()
        assert fork_hazard() == "the zygote has touched CUDA"
    assert fork_hazard() == ""


def test_asking_torch_for_a_device_asks_nvml_and_not_cuda() -> None:
    assert ENVIRONMENT["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"


def test_what_the_torch_zygote_imports_leaves_it_safe_to_fork() -> None:
    """Each library that is imported early could start a thread, or CUDA, in a later version."""
    code = (
        "import sys\n"
        "from stoker.nouns.launch import ZygoteKind\n"
        "from stoker.worker.preimport import fork_hazard, preimport\n"
        "preimport(ZygoteKind.TORCH)\n"
        "assert 'bitsandbytes' in sys.modules\n"
        "assert fork_hazard() == '', fork_hazard()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ENVIRONMENT}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("built", "seen", "expected"),
    [("13.0", True, True), ("13.0", False, False), (None, True, False)],
)
def test_whether_torch_uses_cards_is_found_without_asking_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, built: str | None, seen: bool, expected: bool
) -> None:
    monkeypatch.setattr(preimport, "CARDS", (tmp_path / "no card", tmp_path / "nvidiactl"))
    if seen:
        (tmp_path / "nvidiactl").touch()
    torch = SimpleNamespace(version=SimpleNamespace(cuda=built, hip=None))
    assert preimport.uses_cards(torch) is expected


ON_A_MACHINE_WITH_A_CARD = """
import os, sys, pathlib, torch
from stoker.nouns.launch import ZygoteKind
from stoker.worker import preimport

def started():
    raise AssertionError("CUDA was started")

torch.version.cuda = "13.0"
torch.cuda.is_available = lambda: os.environ.get("CUDA_VISIBLE_DEVICES", "0") != ""
torch.cuda._lazy_init = started
preimport.CARDS = (pathlib.Path("/"),)
preimport.preimport(ZygoteKind.TORCH)
assert torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") == VISIBLE
assert "torchao" in sys.modules, "transformers imports it no more: this test shows nothing"
assert "bitsandbytes" not in sys.modules
"""


@pytest.mark.parametrize("visible", [None, "GPU-1"])
def test_a_machine_s_cards_are_left_to_the_workers_whatever_is_imported(
    visible: str | None,
) -> None:
    """torchao and bitsandbytes ask the cards that they see while they are imported.

    The one would start CUDA, after which no fork is possible; the other would choose its kernels.
    """
    env = {**os.environ, **ENVIRONMENT}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        env["CUDA_VISIBLE_DEVICES"] = visible
    code = f"VISIBLE = {visible!r}\n{ON_A_MACHINE_WITH_A_CARD}"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
