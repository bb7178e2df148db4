"""Writing tokens with transformers' ``generate``: a batch to its end, or one text in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from stoker.models.tasks.generation_parameters import GenerationParameters

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TOKENS_A_STEP = 4
"""A call of ``generate`` has a cost of its own; the first piece is one token, to be there soon."""


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


class Generator:
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
    ) -> list[Written]:
        """Continues every prompt by up to ``room`` tokens."""
        import torch

        ids, mask = self._padded(prompts)
        with torch.inference_mode(), Dice(wishes.seed, self._module.device).rolled():
            whole = self._module.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=room,
                **self._choices(wishes),
                **self._stops(wishes),
            )
        return [self._written(row, wishes) for row in whole[:, ids.shape[1] :].tolist()]

    def stream(self, prompt: list[int], room: int, wishes: GenerationParameters) -> Iterator[Piece]:
        """Continues one prompt, step by step over one key-value cache."""
        dice = Dice(wishes.seed, self._module.device)
        ids, written = list(prompt), list[int]()
        sent, cache = 0, None
        while True:
            count = min(room - len(written), _TOKENS_A_STEP if sent else 1)
            new, cache = self._step(ids, cache, count, wishes, dice)
            ids += new
            written += new
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
        self, ids: list[int], cache: Any, count: int, wishes: GenerationParameters, dice: Dice
    ) -> tuple[list[int], Any]:
        import torch

        tokens = torch.tensor([ids], device=self._module.device)
        with torch.inference_mode(), dice.rolled():
            output = self._module.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=count,
                past_key_values=cache,
                return_dict_in_generate=True,
                **self._choices(wishes),
            )
        return output.sequences[0, len(ids) :].tolist(), output.past_key_values

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

    def _stops(self, wishes: GenerationParameters) -> dict[str, Any]:
        if not wishes.stop:
            return {}
        return {"stop_strings": list(wishes.stop), "tokenizer": self._tokenizer}

    def _written(self, tokens: list[int], wishes: GenerationParameters) -> Written:
        end = next((at for at, token in enumerate(tokens) if token in self._ends), None)
        kept = tokens if end is None else tokens[: end + 1]
        text, stopped = _cut(self._decoded(kept), wishes.stop)
        if stopped and end is None:
            # A row that stopped earlier than its neighbours is filled up.
            while kept and kept[-1] == self._pad:
                kept = kept[:-1]
        reason = "stop" if stopped or end is not None else "length"
        return Written(text, reason, len(kept))

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
