"""The part of a build that makes a model smaller: a source in, a source out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models import seen_texts
from stoker.models.compress import inputs, layers, lessons, weights
from stoker.models.compress.distill import School
from stoker.models.compress.facts import Distilled, Pruned
from stoker.models.compress.objectives import Features, Objective, SoftLabels
from stoker.models.original import load_config, load_original
from stoker.models.prepared import save_module
from stoker.models.source import Source
from stoker.models.tasks.texts import open_tokenizer
from stoker.nouns.compression import Distillation, Pruning, Teaching
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import ModelSettings, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model that was made smaller: where it lies, and what was done."""

    source: Source
    pruned: Pruned | None
    distilled: Distilled | None


class Compression:
    """One making of a smaller model.

    Args:
        source: the original, which is the teacher.
        settings: what is declared.
        pooling: of an encoder's vectors.
        progress: told what happens.
    """

    def __init__(
        self, source: Source, settings: ModelSettings, pooling: str, progress: Progress
    ) -> None:
        self._source = source
        self._settings = settings
        self._pooling = pooling
        self._progress = progress

    def write(self, steps: Path, folder: Path) -> Compressed:
        """Writes the smaller model into a new folder in ``steps``, in the original's numbers.

        Args:
            steps: where it goes, to be quantized from.
            folder: of the checkpoint, which notes the texts that it was taught on.

        Raises:
            UnusableModel: it cannot be made so.
        """
        import torch

        place = steps / "compressed"
        place.mkdir()
        own = inputs.student(self._settings) or self._source
        student = self._load(own)
        dtype = student.dtype
        student = student.to(torch.float32)
        student, masked, pruned = self._pruned(student)
        distilled = None
        if how := self._settings.distill:
            self._check(own, student)
            texts = lessons.read(self._settings.distill_data)
            distilled = self._distilled(student, how, texts, pruned)
            seen_texts.note(folder, texts.lines)
        pruned = self._settled(student, masked, pruned)
        save_module(student.to(dtype), place)
        for path in own.folder.glob("*.py"):  # which a configuration may ask for
            shutil.copyfile(path, place / path.name)
        return Compressed(Source(self._source.name, place, own.stamp), pruned, distilled)

    def _load(self, source: Source) -> PreTrainedModel:
        trust = self._settings.trust_remote_code
        return load_original(source, self._settings.task, "auto", trust_remote_code=trust)

    def _pruned(self, module: PreTrainedModel) -> tuple[PreTrainedModel, list[str], Pruned | None]:
        """The model, the names of its matrices that are under a mask now, and what was done."""
        pruning = self._settings.prune
        if pruning is None:
            return module, [], None
        before = _parameters(module)
        module, facts = self._shortened(module, pruning)
        masked = weights.zeroed(module, pruning) if pruning.zeroes else []
        after = _parameters(module)
        found = Pruned(
            declared=str(pruning), matrices=len(masked), parameters_before=before,
            parameters_after=after, **facts,
        )  # fmt: skip
        return module, masked, found

    def _shortened(
        self, module: PreTrainedModel, pruning: Pruning
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        if not pruning.shortens:
            return module, {}
        count = layers.count_layers(module)
        kept = layers.chosen(pruning, count)
        self._progress(f"{len(kept)} of {count} layers stay: {', '.join(map(str, kept))}")
        return layers.shortened(module, kept), {"layers_before": count, "layers_kept": list(kept)}

    def _settled(
        self, module: PreTrainedModel, masked: list[str], pruned: Pruned | None
    ) -> Pruned | None:
        if pruned is None or not masked:
            return pruned
        count, zeros = weights.settled(module, masked)
        found = pruned.model_copy(update={"weights": count, "zeroed": zeros})
        self._progress(
            f"{zeros} of {count} weights in {len(masked)} matrices are zero, {found.sparsity:.1%}"
        )
        return found

    def _distilled(
        self,
        student: PreTrainedModel,
        how: Distillation,
        texts: lessons.Lessons,
        pruned: Pruned | None,
    ) -> Distilled:
        import torch

        teacher = self._load(self._source).to(torch.float32)
        folder, trust = self._source.folder, self._settings.trust_remote_code
        padding = student.config.pad_token_id
        lessons.Desk(folder, student, trust=trust)  # which has the student know its padding
        desk = lessons.Desk(folder, teacher, trust=trust)
        school = School(teacher, student, self._objective(how, pruned), desk)
        taught, held = texts.split(how.seed)
        before = school.measured(held)
        self._progress(
            f"teaching on {len(taught)} texts, {len(held)} held out: {school.objective.measure} "
            f"{before:.4f} before"
        )
        started = time.monotonic()
        losses = school.teach(taught, how, self._progress)
        found = school.compared(held, before)
        student.config.pad_token_id = padding
        self._progress(f"{found.measure} of the held out {before:.4f} -> {found.after:.4f}")
        tenth = max(1, len(losses) // 10)
        return Distilled(
            declared=str(how), student=self._settings.distill_student, texts=len(taught),
            digest=texts.digest, steps=len(losses), seconds=round(time.monotonic() - started, 3),
            loss_first=round(sum(losses[:tenth]) / tenth, 6),
            loss_last=round(sum(losses[-tenth:]) / tenth, 6), held_out=found,
        )  # fmt: skip

    def _objective(self, how: Distillation, pruned: Pruned | None) -> Objective:
        if how.by is Teaching.SOFT_LABELS:
            return SoftLabels(how.temperature)
        own = pruned is not None and not self._settings.distill_student
        return Features(self._pooling, pruned.layers_kept if pruned and own else ())

    def _check(self, own: Source, student: PreTrainedModel) -> None:
        """Refuses a student that cannot take its teacher's place."""
        if own is self._source:
            return
        trust = self._settings.trust_remote_code
        teacher = load_config(self._source, trust_remote_code=trust)
        facts = {"vocab_size": "tokens"}
        if self._settings.task is Task.FEATURE_EXTRACTION:
            facts["hidden_size"] = "numbers in a vector"
        elif self._settings.task.endswith("classification"):
            facts["num_labels"] = "labels"
        for name, word in facts.items():
            theirs, ours = getattr(teacher, name, None), getattr(student.config, name, None)
            if theirs != ours:
                raise UnusableModel(
                    f"STOKER_DISTILL_STUDENT has {ours} {word}, and STOKER_MODEL, whose place it "
                    f"takes, {theirs}: they must be as many"
                )
        if not _same_words(self._source.folder, own.folder, trust=trust):
            raise UnusableModel(
                "STOKER_DISTILL_STUDENT has another vocabulary than STOKER_MODEL, whose tokenizer "
                "it is served with: they must be the same"
            )


def _same_words(one: Path, other: Path, *, trust: bool) -> bool:
    """Whether two tokenizers have the same words; a folder without one takes the other's."""
    if not any((other / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return True
    found = [open_tokenizer(folder, trust=trust).get_vocab() for folder in (one, other)]
    return bool(found[0] == found[1])


def _parameters(module: PreTrainedModel) -> int:
    return sum(one.numel() for one in module.parameters())
