"""A model's way onto the card: the bus by itself, and a wake as a share of it.

Written without a card at hand: its figures have not been seen yet.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from pathlib import Path

from bench.context import Context
from bench.job import BODY
from bench.result import CannotRun, Figure, Result
from bench.stoker_home import FUNCTIONS, Platform, platform
from stoker.controller.devices import look
from stoker.controller.nvml import Nvml
from stoker.nouns.device import DevicesUnknown

GIB = 2**30
NAME = "bench-on-card"
TENSORS = 16


def run(context: Context) -> Result:
    """Measures copies to the card, then wakes of a function that holds as many bytes there.

    Raises:
        CannotRun: there is no card.
    """
    card = _card()
    size = context.rounds(4, 1) * GIB
    # The pinned copies first: the platform's workers must not share the bus with them.
    bus = _bus(size, context.rounds(10, 3))
    weights = _weights(context.out / "gpu", size)
    try:
        with platform(context, devices="auto") as stoker:
            stoker.deploy(_function(context.out / "gpu", weights))
            wakes = [_wake(stoker, size) for _ in range(context.rounds(20, 4))]
    finally:
        weights.unlink()
    rate = size / statistics.median(wakes) / GIB
    what = f"{size // GIB} GiB on {card}"
    return Result(
        "gpu",
        [
            Figure("copy of pinned memory to the card", bus, "GiB/s"),
            Figure(f"wake of {what}", statistics.median(wakes), "s"),
            Figure(f"wake of {what}, by the bus", rate, "GiB/s", reference=bus, ratio=rate / bus),
        ],
        details={"wakes_s": wakes, "bytes": size},
    )


def _card() -> str:
    try:
        seen = look(Nvml(None))
    except DevicesUnknown as exc:
        raise CannotRun(exc.message) from exc
    if not seen:
        raise CannotRun("there is no CUDA device here: make gpu-bench needs one")
    return seen[0].device.name


def _bus(size: int, rounds: int) -> float:
    """GiB/s of one large copy from pinned memory, the best of some."""
    import torch

    if not torch.cuda.is_available():
        raise CannotRun("this torch cannot use the card: install one that is built for CUDA")
    source = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(size, dtype=torch.uint8, device="cuda")
    best = 0.0
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        best = max(best, size / (time.perf_counter() - start) / GIB)
    del source, target
    torch.cuda.empty_cache()
    return best


def _weights(folder: Path, size: int) -> Path:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    each = size // TENSORS // 2
    tensors = {f"w{n}": torch.zeros(each, dtype=torch.bfloat16) for n in range(TENSORS)}
    path = folder / "weights.safetensors"
    save_file(tensors, path)
    return path


def _function(folder: Path, weights: Path) -> Path:
    """The function of bench/functions, told where the weights are and how much they need."""
    made = folder / "on-card"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    shutil.copy(FUNCTIONS / "on-card" / "on_card.py", made)
    document = {
        "apiVersion": "nuclio.io/v1",
        "kind": "Function",
        "metadata": {"name": NAME},
        "spec": {
            "handler": "on_card:handler",
            "minReplicas": 0,
            "maxReplicas": 1,
            "resources": {"limits": {"nvidia.com/gpu": 1}},
            "env": [
                {"name": "BENCH_WEIGHTS", "value": str(weights)},
                {"name": "STOKER_GPU_MEMORY", "value": str(weights.stat().st_size + GIB)},
            ],
        },
    }
    (made / "function.yaml").write_text(json.dumps(document))
    return made


def _wake(stoker: Platform, size: int) -> float:
    """Seconds from a request at zero to its whole reply.

    Raises:
        CannotRun: it failed, or holds something else.
    """
    stoker.sleep(NAME)
    start = time.perf_counter()
    status, body = stoker.endpoint(NAME).post(BODY)
    taken = time.perf_counter() - start
    if status != 200 or json.loads(body)["bytes"] != size:
        raise CannotRun(f"the wake of {NAME} was answered {status}: {body[:300]!r}")
    return taken
