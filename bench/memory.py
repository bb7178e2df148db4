"""How many copies of a model's weights the workers of one function hold, in proportional set size.

PSS shares each page among the processes that map it: four workers with one copy of the weights
count it once. Two figures: the pages of the checkpoint itself, and all that the model adds to the
same workers without one (weights, tokenizer, session, pages copied since the fork), so that a
loader which copied its weights out of the mapping would show.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.context import ROOT, Context
from bench.result import CannotRun, Figure, Result, at_most
from bench.stoker_home import FUNCTIONS, Platform, platform

EMBEDDER = ROOT / "functions" / "text-embedder"
HOLLOW = FUNCTIONS / "hollow"
MANY = 4
MIB = 1024 * 1024


@dataclass(frozen=True)
class Pss:
    """MiB of one function's workers: all of it, and the checkpoint's pages alone."""

    total: float
    weights: float


def run(context: Context) -> Result:
    """One and four workers, with the model and without."""
    found: dict[str, Pss] = {}
    with platform(context) as stoker:
        for folder in (HOLLOW, EMBEDDER):
            for count in (1, MANY):
                pss = _measured(stoker, folder, count)
                context.say(f"{count} × {folder.name}: {pss.total:.0f} MiB, "
                            f"of which {pss.weights:.1f} MiB are weights")  # fmt: skip
                found[f"{folder.name}_{count}"] = pss
    details = {name: asdict(pss) for name, pss in found.items()}
    return Result("memory", _figures(found), details=details)


def _figures(found: dict[str, Pss]) -> list[Figure]:
    one, many = found[f"{EMBEDDER.name}_1"], found[f"{EMBEDDER.name}_{MANY}"]
    if one.weights <= 0:
        raise CannotRun("no worker maps a file of the checkpoint: its weights are private copies")
    added, all_added = (
        pss.total - found[f"{HOLLOW.name}_{count}"].total for count, pss in ((1, one), (MANY, many))
    )
    return [
        Figure(
            f"weights in {MANY} workers, beside one worker's",
            many.weights,
            "MiB",
            reference=one.weights,
            ratio=many.weights / one.weights,
            target=at_most(1.25),
        ),
        Figure(
            f"all that the model adds to {MANY} workers, beside one",
            all_added,
            "MiB",
            reference=added,
            ratio=all_added / added,
        ),
        Figure(f"{MANY} workers with the model, libraries included", many.total, "MiB"),
    ]


def _measured(stoker: Platform, folder: Path, count: int) -> Pss:
    """PSS of ``count`` workers, each of which has answered."""
    with tempfile.TemporaryDirectory(prefix="stoker-bench-fn-") as scratch:
        name = _copy(folder, Path(scratch), count)
        stoker.deploy(Path(scratch))
    stoker.exercise(name)
    workers = stoker.workers(name)
    if len(workers) != count:
        raise CannotRun(f"{name} has {len(workers)} worker processes instead of {count}")
    pss = _pss(workers, str((stoker.home / "models").resolve()))
    stoker.remove(name)
    psutil.wait_procs(workers, timeout=30)
    return pss


def _pss(workers: list[psutil.Process], checkpoints: str) -> Pss:
    maps = [one for process in workers for one in process.memory_maps(grouped=True)]
    weights = sum(one.pss for one in maps if one.path.startswith(checkpoints))
    return Pss(sum(one.pss for one in maps) / MIB, weights / MIB)


def _copy(folder: Path, target: Path, count: int) -> str:
    """The same function with ``count`` workers, in a folder of its own; its new name."""
    for source in folder.glob("*.py"):
        (target / source.name).write_bytes(source.read_bytes())
    document: dict[str, Any] = yaml.safe_load((folder / "function.yaml").read_text())
    document["metadata"]["name"] += f"-{count}"
    document["spec"]["triggers"]["http"]["numWorkers"] = count
    (target / "function.yaml").write_text(yaml.safe_dump(document))
    return str(document["metadata"]["name"])
