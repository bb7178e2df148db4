"""Writing texts beside each other, a token a step, with transformers' ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stoker.models.placement import device_of
from stoker.models.tasks.dice import Dice
from stoker.models.tasks.generation_parameters import GenerationParameters
from stoker.models.tasks.steps import Steps
from stoker.models.tasks.writing import Writing

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


_LEAST_TEMPERATURE = 0.01
"""Below it the likeliest token is all there is, and divided by much less its logit is infinite."""


class _Rows(NamedTuple):
    """Texts that are written together.

    Attributes:
        texts: one a row.
        ids: prompts and what was written, padded on the left.
        mask: 0 for the padding.
        cache: the keys and values of all but the last token; None before the first step.
    """

    texts: list[Writing]
    ids: torch.Tensor
    mask: torch.Tensor
    cache: Any


class Writer:
    """A language model and its tokenizer."""

    def __init__(self, module: PreTrainedModel, tokenizer: Any) -> None:
        from transformers import GenerationConfig

        self._module = module
        self._device = device_of(module)
        self._tokenizer = tokenizer
        ends = module.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        # The tokenizer's own too: a model that was taught to chat may have kept the other's file.
        self._ends = frozenset({*ends, tokenizer.eos_token_id} - {None})
        pad = tokenizer.pad_token_id
        self._pad = next(iter(self._ends), 0) if pad is None else int(pad)
        # What it came with (penalties, a length, several answers) nobody here asked for, and a
        # penalty counts the padding, so that an answer would depend on its neighbours.
        module.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id)

    def dice(self, seed: int | None) -> Dice:
        """Randomness on the model's device."""
        return Dice(seed, self._device)

    def decoded(self, tokens: list[int]) -> str:
        """The text of tokens; a letter that is not whole yet is U+FFFD at its end."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def write(
        self, texts: Sequence[Writing], wishes: GenerationParameters, dice: Dice
    ) -> Steps[None]:
        """Continues every text until it ends or nobody waits for it, and yields at each token.

        A text that takes no further part costs its neighbours nothing more.
        """
        going = [text for text in texts if text.goes_on]
        if not going:
            return
        rows = self._padded(going)
        while rows.texts:
            rows = self._step(rows, wishes, dice)
            for text, token in zip(rows.texts, rows.ids[:, -1].tolist(), strict=True):
                if text.goes_on:
                    text.take(token, self._ends)
            if any(text.goes_on for text in rows.texts):
                yield
            rows = _narrowed(rows)

    def _step(self, rows: _Rows, wishes: GenerationParameters, dice: Dice) -> _Rows:
        """Every row with one token more.

        One, although a call of ``generate`` has a cost of its own (about a millisecond): so soon is
        a token on its way to its reader, and so soon ends what nobody waits for.
        """
        import torch
        from torch.nn import functional

        with torch.inference_mode(), dice.rolled():
            output = self._module.generate(
                input_ids=rows.ids,
                attention_mask=rows.mask,
                max_new_tokens=1,
                past_key_values=rows.cache,
                return_dict_in_generate=True,
                **self._choices(wishes),
            )
        mask = functional.pad(rows.mask, (0, 1), value=1)
        return _Rows(rows.texts, output.sequences, mask, output.past_key_values)

    def _padded(self, texts: list[Writing]) -> _Rows:
        import torch

        known = [[*text.ids, *text.tokens] for text in texts]
        longest = max(len(ids) for ids in known)
        ids = [[self._pad] * (longest - len(row)) + row for row in known]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in known]
        device = self._device
        return _Rows(
            texts, torch.tensor(ids, device=device), torch.tensor(mask, device=device), None
        )

    def _choices(self, wishes: GenerationParameters) -> dict[str, Any]:
        """What the request says, or leaves to be as if it had not been said."""
        sampled = wishes.temperature > 0
        return {
            "do_sample": sampled,
            "temperature": max(wishes.temperature, _LEAST_TEMPERATURE) if sampled else None,
            "top_p": wishes.top_p if sampled else None,
            "top_k": (wishes.top_k or 0) if sampled else None,
            "num_beams": 1,
            "pad_token_id": self._pad,
            "eos_token_id": sorted(self._ends) or None,
        }


def _narrowed(rows: _Rows) -> _Rows:
    """The rows that go on; all of them, while some do, where a cache cannot be taken apart."""
    import torch

    kept = [index for index, text in enumerate(rows.texts) if text.goes_on]
    if not kept:
        return rows._replace(texts=[])
    # What beam search does with its rows, every kind of layer can: attention or not.
    chosen = getattr(rows.cache, "reorder_cache", None)
    if len(kept) == len(rows.texts) or chosen is None:
        return rows
    with torch.inference_mode():
        index = torch.tensor(kept, device=rows.ids.device)
        chosen(index)
        texts = [rows.texts[one] for one in kept]
        return _Rows(texts, rows.ids[index], rows.mask[index], rows.cache)
