"""Texts to tensors: the tokenizer of a prepared checkpoint, for models with a head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.layout import context_of
from stoker.models.placement import device_of
from stoker.nouns.errors import BadRequest, UnusableModel

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedModel

_ABSURD = 10**9
"""transformers gives a tokenizer without a limit one of 10**30."""


class Texts:
    """A tokenizer and the limits of its model.

    Attributes:
        tokenizer: transformers' own.
        context: the most tokens that the model takes; None when nothing says so.
    """

    def __init__(
        self, folder: Path, module: PreTrainedModel, *, side: str = "right", trust: bool = False
    ) -> None:
        self.tokenizer = open_tokenizer(folder, trust=trust)
        self.context = _context(self.tokenizer, module.config)
        self._side = side
        self._device = device_of(module)
        if self.tokenizer.pad_token_id is None:
            # Padding is masked, so that any token will do.
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        if getattr(module.config, "pad_token_id", None) is None:
            # Some heads look for the last token that is not this one.
            module.config.pad_token_id = self.tokenizer.pad_token_id

    def encode(
        self, text: Any, pair: str | None = None, *, truncation: bool = False, **more: Any
    ) -> BatchEncoding:
        """One text's tokens.

        Raises:
            BadRequest: it is no text, or over the model's context and not to be cut.
        """
        if not isinstance(text, str):
            raise BadRequest(f"an input must be a text, was a {type(text).__name__}")
        cut = {"truncation": True, "max_length": self.context} if truncation else {}
        encoding = self.tokenizer(text, pair, verbose=False, **cut, **more)
        count = len(encoding["input_ids"])
        if self.context is not None and count > self.context:
            raise BadRequest(
                f"the input has {count} tokens, the model takes {self.context}; shorten it, or "
                "let it be cut with the parameter truncation: true",
                tokens=count,
                limit=self.context,
            )
        if not count:
            raise BadRequest("the input is an empty text, which has no tokens")
        return encoding

    def batch(self, encodings: Sequence[BatchEncoding]) -> dict[str, Any]:
        """The model's inputs for several texts, padded to the longest."""
        names = [name for name in self.tokenizer.model_input_names if name in encodings[0]]
        rows = {name: [encoding[name] for encoding in encodings] for name in names}
        padded = self.tokenizer.pad(rows, return_tensors="pt", padding_side=self._side)
        return {name: tensor.to(self._device) for name, tensor in padded.items()}


def open_tokenizer(folder: Path, *, trust: bool) -> Any:
    """The tokenizer of a folder; ``trust``: Python that lies in it may run.

    Raises:
        UnusableModel: there is none that can be read.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust, local_files_only=True
        )
    except Exception as exc:  # transformers and the Rust library raise anything here
        raise UnusableModel(f"{folder} has no tokenizer that can be read: {exc}") from exc


def _context(tokenizer: Any, config: Any) -> int | None:
    limits = [tokenizer.model_max_length, context_of(config.get_text_config())]
    known = [int(limit) for limit in limits if limit is not None and 0 < limit < _ABSURD]
    return min(known, default=None)
