"""Texts to padded blocks of token ids, cut so that little of a block is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]
TOKENIZER = "tokenizer.json"


class Tokens:
    """The tokenizer of a prepared checkpoint. For one thread at a time."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        tokenizer.enable_truncation(max_tokens)
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    @classmethod
    def of(cls, folder: Path, max_tokens: int) -> Tokens:
        """Reads ``tokenizer.json`` of a prepared checkpoint.

        Raises:
            UnusableModel: it is missing or damaged.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as exc:  # the Rust library raises the bare class
            raise UnusableModel(f"{folder / TOKENIZER} cannot be read: {exc}") from exc
        return cls(tokenizer, max_tokens)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]


def blocks(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Groups texts of like length: lists of indices, none of whose padded size is over ``budget``.

    A text longer than the budget is alone.

    >>> list(blocks([3, 9, 4, 30], 16))
    [[0, 2], [1], [3]]
    """
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and lengths[index] * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def padded(rows: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Token ids and attention mask, both [len(rows), longest row]."""
    longest = max(len(row) for row in rows)
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
