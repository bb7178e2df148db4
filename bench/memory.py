"""How many copies of a model's weights the workers of one function hold."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.context import ROOT, Context
from bench.result import CannotRun, Figure, Result, at_most
from bench.stoker_home import FUNCTIONS, Platform, platform

EMBEDDER = ROOT / "functions" / "text-embedder"
MANY = 4
MIB = 1024 * 1024


def run(context: Context) -> Result:
    """PSS of one and of four workers, with the model and without; the rest is the model's."""
    pss: dict[str, float] = {}
    with platform(context) as stoker:
        for folder, label in ((FUNCTIONS / "hollow", "without"), (EMBEDDER, "with")):
            for count in (1, MANY):
                pss[f"{label}_{count}"] = _measured(stoker, folder, count)
                context.say(f"{count} × {label} the model: {pss[f'{label}_{count}']:.0f} MiB PSS")
    one, many = (pss[f"with_{n}"] - pss[f"without_{n}"] for n in (1, MANY))
    if one <= 0:
        raise CannotRun(f"the model's share of one worker came out as {one:.1f} MiB: {pss}")
    figure = Figure(
        f"memory of the model in {MANY} workers, beside one",
        many,
        "MiB",
        reference=one,
        ratio=many / one,
        target=at_most(1.25),
    )
    return Result("memory", [figure, *_workers(pss)], details=pss)


def _workers(pss: dict[str, float]) -> list[Figure]:
    whole = pss[f"with_{MANY}"]
    return [Figure(f"memory of {MANY} workers, interpreter and libraries included", whole, "MiB")]


def _measured(stoker: Platform, folder: Path, count: int) -> float:
    """MiB of proportional set size of ``count`` workers, each of which has answered."""
    with tempfile.TemporaryDirectory(prefix="stoker-bench-fn-") as scratch:
        name = _copy(folder, Path(scratch), count)
        stoker.deploy(Path(scratch))
    stoker.exercise(name)
    workers = stoker.workers(name)
    if len(workers) != count:
        raise CannotRun(f"{name} has {len(workers)} worker processes instead of {count}")
    total = sum(process.memory_full_info().pss for process in workers)
    stoker.remove(name)
    psutil.wait_procs(workers, timeout=30)
    return total / MIB


def _copy(folder: Path, target: Path, count: int) -> str:
    """The same function with ``count`` workers, in a folder of its own; its new name."""
    for source in folder.glob("*.py"):
        (target / source.name).write_bytes(source.read_bytes())
    document: dict[str, Any] = yaml.safe_load((folder / "function.yaml").read_text())
    document["metadata"]["name"] += f"-{count}"
    document["spec"]["triggers"]["http"]["numWorkers"] = count
    (target / "function.yaml").write_text(yaml.safe_dump(document))
    return str(document["metadata"]["name"])
