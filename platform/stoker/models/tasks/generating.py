"""Writing tokens with transformers' ``generate``: a batch to its end, or one text in pieces."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from stoker.models.tasks.generation_parameters import GenerationParameters

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TOKENS_A_STEP = 4
"""A call of ``generate`` has a cost of its own; the first piece is one token, to be there soon."""
_TOKENS_A_LOOK = 8
"""Of a text that is not streamed, between two looks at whether anybody still waits for it."""


class Written(NamedTuple):
    """What came next. ``finish_reason`` is "stop" (its own end, or a stop text) or "length"."""

    text: str
    finish_reason: str
    tokens: int


class Piece(NamedTuple):
    """A part of a text; ``finish_reason`` is empty before the last, ``tokens`` are those so far."""

    text: str
    finish_reason: str
    tokens: int


class Writer:
    """A language model and its tokenizer."""

    def __init__(self, module: PreTrainedModel, tokenizer: Any) -> None:
        self._module = module
        self._tokenizer = tokenizer
        ends = module.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self._ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
        pad = tokenizer.pad_token_id
        self._pad = next(iter(self._ends), 0) if pad is None else int(pad)

    def write(
        self, prompts: Sequence[list[int]], room: int, wishes: GenerationParameters
    ) -> Generator[None, None, list[Written]]:
        """Continues every prompt by up to ``room`` tokens; yields now and then while it writes."""
        dice, cache = Dice(wishes.seed, self._module.device), None
        ids, mask = self._padded(prompts)
        start, seen = ids.shape[1], 0
        ended: list[Written | None] = [None] * len(prompts)
        while True:
            count = min(room - seen, _TOKENS_A_LOOK)
            ids, mask, cache = self._step(ids, mask, cache, count, wishes, dice)
            rows = ids[:, start:].tolist()
            # A row that ended goes on beside the others, and what it writes is not looked at.
            ended = [
                known or self._ended(row, seen, wishes)
                for known, row in zip(ended, rows, strict=True)
            ]
            seen = len(rows[0])
            if all(ended) or seen >= room:
                break
            yield
        return [
            known or Written(self._decoded(row), "length", len(row))
            for known, row in zip(ended, rows, strict=True)
        ]

    def stream(self, prompt: list[int], room: int, wishes: GenerationParameters) -> Iterator[Piece]:
        """Continues one prompt, step by step over one key-value cache."""
        dice = Dice(wishes.seed, self._module.device)
        (ids, mask), written = self._padded([prompt]), list[int]()
        sent, cache = 0, None
        while True:
            count = min(room - len(written), _TOKENS_A_STEP if sent else 1)
            ids, mask, cache = self._step(ids, mask, cache, count, wishes, dice)
            written = ids[0, len(prompt) :].tolist()
            ended = bool(written) and written[-1] in self._ends
            text, stopped = _cut(self._decoded(written), wishes.stop)
            if stopped or ended or len(written) >= room:
                reason = "stop" if stopped or ended else "length"
                yield Piece(text[sent:], reason, len(written))
                return
            safe = len(text) - _unsure(text, wishes.stop)
            if safe > sent:
                yield Piece(text[sent:safe], "", len(written))
                sent = safe

    def _step(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        cache: Any,
        count: int,
        wishes: GenerationParameters,
        dice: Dice,
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Every row with up to ``count`` tokens more, its mask, and the cache to go on with."""
        import torch
        from torch.nn import functional

        with torch.inference_mode(), dice.rolled():
            output = self._module.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=count,
                past_key_values=cache,
                return_dict_in_generate=True,
                **self._choices(wishes),
            )
        longer = output.sequences
        new = longer.shape[1] - ids.shape[1]
        return longer, functional.pad(mask, (0, new), value=1), output.past_key_values

    def _padded(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        longest = max(len(ids) for ids in prompts)
        ids = [[self._pad] * (longest - len(row)) + row for row in prompts]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in prompts]
        device = self._module.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _choices(self, wishes: GenerationParameters) -> dict[str, Any]:
        """All of them, so that nothing is left to what the checkpoint's own defaults say."""
        sampled = wishes.temperature > 0
        return {
            "do_sample": sampled,
            "temperature": wishes.temperature if sampled else None,
            "top_p": wishes.top_p if sampled else None,
            "top_k": (wishes.top_k or 0) if sampled else None,
            "num_beams": 1,
            "pad_token_id": self._pad,
            "eos_token_id": sorted(self._ends) or None,
        }

    def _ended(self, tokens: list[int], seen: int, wishes: GenerationParameters) -> Written | None:
        """What a row wrote up to its end, if that is among the tokens after ``seen``."""
        stopped = _cut(self._decoded(tokens), wishes.stop)[1]
        for count in range(seen + 1, len(tokens) + 1):
            at_end = tokens[count - 1] in self._ends
            if stopped or at_end:
                text, stopped_here = _cut(self._decoded(tokens[:count]), wishes.stop)
                if stopped_here or at_end:
                    return Written(text, "stop", count)
        return None

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


class Dice:
    """A source of randomness of its own, when a seed is given: others' are left as they were."""

    def __init__(self, seed: int | None, device: torch.device) -> None:
        self._seed = seed
        self._state: Any = None
        self._devices = [device] if device.type == "cuda" else []

    @contextmanager
    def rolled(self) -> Iterator[None]:
        """Within it torch draws from here, going on from where the last use ended."""
        import torch

        if self._seed is None:
            yield
            return
        with torch.random.fork_rng(devices=self._devices):
            if self._state is None:
                torch.manual_seed(self._seed)
            else:
                self._restore()
            yield
            self._state = (
                torch.get_rng_state(),
                [torch.cuda.get_rng_state(device) for device in self._devices],
            )

    def _restore(self) -> None:
        import torch

        own, cards = self._state
        torch.set_rng_state(own)
        for device, state in zip(self._devices, cards, strict=True):
            torch.cuda.set_rng_state(state, device)


def _cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop, and whether there is one."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return (text[: min(found)], True) if found else (text, False)


def _unsure(text: str, stops: Sequence[str]) -> int:
    r"""How many letters at the end may yet change or turn out to be the start of a stop.

    >>> _unsure("so far so", ["so on"]), _unsure("caf\ufffd", []), _unsure("all", ["x"])
    (2, 1, 0)
    """
    unsure = len(text) - len(text.rstrip("\ufffd"))
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), unsure, -1):
            if text.endswith(stop[:length]):
                unsure = length
                break
    return unsure
