"""Preparing a model, once, as a build step: ``python -m stoker.models.prepare``.

Reads the function's environment (`stoker.nouns.settings`) and ``STOKER_HOME``, prints a line a
step, and exits with 0 when the checkpoint lies ready in the home, else with 1 and the reason.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from stoker.models.build import Build
from stoker.models.compress import inputs
from stoker.models.kv_cache import cache_bytes
from stoker.models.manifest import Manifest
from stoker.models.recipe import Recipe, choose
from stoker.models.shelf import Progress, Shelf
from stoker.models.source import Source, find
from stoker.nouns.errors import StokerError, UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.quantity import format_bytes
from stoker.nouns.settings import ModelSettings

_PEAK = 2.0
"""Disk that a preparation takes at its peak, over the bytes of the original's weights: the fp32
export, the int8 graph and the packed one lie side by side for a moment (1 + 0.26 + 0.37)."""
_PEAK_GGUF = 14.0
"""A GGUF holds about 5 bits a weight: 32 and the result's 16, or 32 again, lie side by side."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checkpoint that lies ready. ``built`` is False when it was there already."""

    folder: Path
    manifest: Manifest
    built: bool


def prepare(settings: ModelSettings, home: Home, progress: Progress) -> Prepared:
    """Makes what the settings declare, or finds it made.

    Raises:
        UnusableModel: the model is not there, or cannot be prepared so.
        InsufficientStorage: the disk of the home is too full.
    """
    recipe, shelf = choose(settings), Shelf(home.models)
    source = find(settings.model, pickled=settings.pickled_weights)
    if not source.gguf:
        _check_split(source.folder, settings)
    digest = _digest(source, recipe, shelf)
    key = recipe.key(digest + inputs.digest(settings))
    work = Build(source, recipe, digest, key, progress)
    earlier = shelf.find(key)
    smaller = settings.prune is not None or settings.distill is not None  # lies beside it then
    peak = (_PEAK_GGUF if source.gguf else _PEAK) + smaller
    needs = int(source.weight_bytes * peak)
    folder = earlier or shelf.publish(key, work.fill, needs=needs, progress=progress)
    _check_split(folder, settings)
    stamps = {"stamp": source.stamp, "inputs": inputs.stamp(settings)}
    shelf.note(recipe.declaration, stamps | {"digest": digest, "key": key})
    return Prepared(folder, Manifest.of(folder), built=work.done)


def _check_split(folder: Path, settings: ModelSettings) -> None:
    """Before the work where it can be known, since a large model takes minutes."""
    if settings.tensor_parallel > 1:
        from stoker.models.parallel.sharded import check_folder

        check_folder(folder, settings.tensor_parallel, trust=settings.trust_remote_code)


def _digest(source: Source, recipe: Recipe, shelf: Shelf) -> str:
    """The source's digest, from the note of an earlier preparation if no file changed since."""
    note = shelf.recall(recipe.declaration)
    if note.get("stamp") == source.stamp and note.get("digest"):
        return str(note["digest"])
    return source.digest()


def main() -> int:
    """The build step. Returns the exit code."""
    for library in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        # What they warn themselves of, once imported, would stand in the log of every deploy.
        logging.getLogger(library).setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars that overwrite themselves fill a log
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        settings, home = ModelSettings.read(os.environ), Home.at()
        if not settings.model:
            raise UnusableModel("STOKER_MODEL is not set: there is nothing to prepare")
        result = prepare(settings, home, _say)
    except StokerError as exc:
        # On one line: the last one is what the function's status shows.
        _say(f"error: {' '.join(exc.message.split())}")
        return 1
    made = result.manifest
    if report := os.environ.get("STOKER_PREPARE_REPORT"):
        # What the controller places the workers by (`stoker.nouns.record.ModelBytes`).
        cache = cache_bytes(result.folder, made)
        told = {"key": made.key, "weights": made.bytes_after, "cache": cache}
        Path(report).write_text(json.dumps(told))
    took = f"in {made.seconds:.1f} s" if result.built else "was ready"
    _say(
        f"model {made.model} ({made.quantization}, {made.backend}) {took}: "
        f"{format_bytes(made.bytes_before)} -> {format_bytes(made.bytes_after)}, {result.folder}"
    )
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
