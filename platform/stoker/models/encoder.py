"""A model that is loaded: texts in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from stoker.models.manifest import Manifest
from stoker.models.tokens import Ids, Tokens, blocks, padded
from stoker.nouns.errors import BadRequest, HandlerFailed

if TYPE_CHECKING:
    from stoker.models.tasks.adapters import Adapters

Vectors = npt.NDArray[np.float32]


class Session(Protocol):
    """A back end that holds the weights.

    Attributes:
        block_tokens: padded tokens that should run at once; a longer text runs alone.
    """

    block_tokens: int

    def run(self, ids: Ids, mask: Ids) -> Vectors:
        """Normalised vectors [n, dimension] of n rows of token ids."""
        ...


class Model:
    """A loaded model. Call it from one thread at a time.

    Attributes:
        manifest: how the checkpoint was made, and its dimensions.
        folder: where the checkpoint lies.
        load_seconds: what loading took.
        adapters: those that lie over it; None where the back end can have none.
    """

    def __init__(
        self,
        session: Session,
        tokens: Tokens,
        manifest: Manifest,
        folder: Path,
        adapters: Adapters | None = None,
    ) -> None:
        self._session = session
        self.adapters = adapters
        self._tokens = tokens
        self.manifest = manifest
        self.folder = folder
        self.load_seconds = 0.0

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.manifest.dimension

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text are looked at."""
        return [len(row) for row in self._tokens.ids(texts)]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One vector of length 1 for each text: float32 [len(texts), dimension].

        Texts of like length run together, whatever their order.

        Raises:
            TypeError: ``texts`` is a string, or holds something else than strings.
            BadRequest: a text has no tokens: it is empty, and the tokenizer adds none of its own.
            HandlerFailed: a vector is not of numbers, as after an overflow in fp16.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, was one str")
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        rows = self._tokens.ids(texts)
        if not all(rows):
            raise BadRequest("the input is an empty text, which has no tokens")
        for group in blocks([len(row) for row in rows], self._session.block_tokens):
            vectors[group] = self._session.run(*padded([rows[index] for index in group]))
        if np.isnan(vectors).any():
            raise no_numbers(self.manifest)
        return vectors


def no_numbers(manifest: Manifest) -> HandlerFailed:
    """The error of an answer that is NaN, which JSON would tell as null, as if that were one."""
    return HandlerFailed(
        f"the model ({manifest.quantization}, dtype {manifest.dtype}) got NaN of this input, which "
        "is no answer; what overflows in fp16 does not in STOKER_DTYPE=bf16 or fp32"
    )
