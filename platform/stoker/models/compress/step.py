"""The part of a build that makes a model smaller: a source in, a source out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.compress.facts import Distilled, Pruned
from stoker.models.original import load_original
from stoker.models.prepared import save_module
from stoker.models.source import Source
from stoker.nouns.compression import Pruning
from stoker.nouns.settings import ModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model that was made smaller: where it lies, and what was done."""

    source: Source
    pruned: Pruned | None
    distilled: Distilled | None


def compressed(
    source: Source, settings: ModelSettings, folder: Path, progress: Progress
) -> Compressed:
    """Writes the smaller model into ``folder``, in the numbers of the original.

    Raises:
        UnusableModel: it cannot be made so.
    """
    import torch

    folder.mkdir()
    student = load_original(
        source, settings.task, "auto", trust_remote_code=settings.trust_remote_code
    )
    dtype = student.dtype
    student = student.to(torch.float32)
    pruned: Pruned | None = None
    if settings.prune:
        student, masked, pruned = _pruned(student, settings.prune, progress)
        pruned = _settled(student, masked, pruned, progress)
    save_module(student.to(dtype), folder)
    for path in source.folder.glob("*.py"):  # which a configuration may ask for
        shutil.copyfile(path, folder / path.name)
    return Compressed(Source(source.name, folder, source.stamp), pruned, None)


def _pruned(
    module: PreTrainedModel, pruning: Pruning, progress: Progress
) -> tuple[PreTrainedModel, list[str], Pruned]:
    """The model, the names of its matrices that are under a mask now, and what was done."""
    from stoker.models.compress import layers, weights

    before = _parameters(module)
    facts: dict[str, Any] = {}
    if pruning.shortens:
        count = layers.count_layers(module)
        kept = layers.chosen(pruning, count)
        module = layers.shortened(module, kept)
        facts = {"layers_before": count, "layers_kept": list(kept)}
        progress(f"{len(kept)} of {count} layers stay: {', '.join(map(str, kept))}")
    masked = weights.zeroed(module, pruning) if pruning.zeroes else []
    after = _parameters(module)
    return module, masked, Pruned(
        declared=str(pruning), matrices=len(masked), parameters_before=before,
        parameters_after=after, **facts,
    )  # fmt: skip


def _settled(
    module: PreTrainedModel, masked: list[str], pruned: Pruned, progress: Progress
) -> Pruned:
    from stoker.models.compress import weights

    if not masked:
        return pruned
    count, zeros = weights.settled(module, masked)
    found = pruned.model_copy(update={"weights": count, "zeroed": zeros})
    progress(f"{zeros} of {count} weights in {len(masked)} matrices are zero, {found.sparsity:.1%}")
    return found


def _parameters(module: PreTrainedModel) -> int:
    return sum(one.numel() for one in module.parameters())
