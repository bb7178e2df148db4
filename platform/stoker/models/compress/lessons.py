"""The texts that a student is taught on: found, split, and cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models import text_file
from stoker.models.seen_texts import fingerprint
from stoker.models.tasks.texts import Texts
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    import torch

LEAST = 32
"""Different texts; on fewer a student learns them by heart."""
_MOST_BYTES = 256 << 20
_VARIABLE = "STOKER_DISTILL_DATA"
_TOKENS = 128
"""Texts are cut there while a student is taught: longer ones cost more and teach little more."""
_LEAST_HELD, _MOST_HELD = 8, 128


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a file of texts holds: no empty ones, none twice, in its order.

    Attributes:
        lines: the texts.
        digest: SHA-256 of the file.
    """

    lines: tuple[str, ...]
    digest: str

    def split(self, seed: int) -> tuple[list[str], list[str]]:
        """The texts to be taught on, and a tenth (8 to 128) that is held out of them."""
        import torch

        order = torch.randperm(
            len(self.lines), generator=torch.Generator().manual_seed(seed)
        ).tolist()
        held = min(_MOST_HELD, max(_LEAST_HELD, len(order) // 10))
        mixed = [self.lines[index] for index in order]
        return mixed[held:], mixed[:held]


def path_of(declared: str) -> Path:
    """The file that ``STOKER_DISTILL_DATA`` means.

    Raises:
        UnusableModel: the package or the file in it is not there.
    """
    return text_file.path_of(declared, _VARIABLE)


def read(declared: str) -> Lessons:
    """The texts of ``STOKER_DISTILL_DATA``, one a line.

    Raises:
        UnusableModel: the file is not there, is no text, is too large, or has too few.
    """
    path = path_of(declared)
    content = text_file.content_of(path, _VARIABLE, most_bytes=_MOST_BYTES)
    different = {fingerprint(one): one for one in text_file.lines_of(content, path, _VARIABLE)}
    if len(different) < LEAST:
        raise UnusableModel(
            f"{_VARIABLE}: {path} must have at least {LEAST} different texts, one a line, has "
            f"{len(different)}"
        )
    return Lessons(tuple(different.values()), hashlib.sha256(content).hexdigest())


class Desk:
    """Texts to a model's inputs, with its own tokenizer."""

    def __init__(self, folder: Path, module: Any, *, trust: bool) -> None:
        self._texts = Texts(folder, module, trust=trust)
        self._longest = min(self._texts.context or _TOKENS, _TOKENS)

    def inputs(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Padded to the longest."""
        rows = [
            self._texts.tokenizer(text, truncation=True, max_length=self._longest, verbose=False)
            for text in texts
        ]
        found = self._texts.batch(rows)
        return {name: found[name] for name in ("input_ids", "attention_mask")}


def batches(texts: Sequence[str], size: int, seed: int) -> Iterator[list[str]]:
    """Without end: all texts in one order after another, each as often as the others."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(texts), generator=generator).tolist()
        for start in range(0, len(order), size):
            yield [texts[index] for index in order[start : start + size]]
