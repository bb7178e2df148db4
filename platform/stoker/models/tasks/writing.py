"""A text on its way: its prompt, what was written behind it so far, and what of that was told."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from stoker.models.tasks.dice import Dice
from stoker.models.tasks.reading import Decode


class Piece(NamedTuple):
    """A part of a text; ``finish_reason`` is empty before the last, ``tokens`` are those so far."""

    text: str
    finish_reason: str
    tokens: int


class Writing:
    """One text. Whoever runs the model is its only writer; whoever waits takes its pieces.

    What it has stays with it: a run that failed goes on where it was, and nothing is told twice.

    Attributes:
        ids: the prompt's tokens.
        room: the most tokens to write.
        before: what the whole answer begins with; its first piece too.
        tokens: what was written so far.
        reason: why it ended: "stop" (its own end, or a stop text) or "length"; empty before that.
        left: nobody waits for it any more.
        dice: of a text that has a seed.
    """

    def __init__(
        self,
        ids: list[int],
        room: int,
        decode: Decode,
        *,
        stop: Sequence[str] = (),
        before: str = "",
    ) -> None:
        self.ids = ids
        self.room = room
        self.before = before
        self.tokens: list[int] = []
        self.reason = ""
        self.left = False
        self.dice: Dice | None = None
        self._decode = decode
        self._stop = stop
        self._told = 0
        self._begun = False
        self._looked = 0
        self._shown = 0

    @property
    def goes_on(self) -> bool:
        """Whether another token is wanted."""
        return not (self.reason or self.left)

    @property
    def text(self) -> str:
        """What was written, up to a stop text."""
        return self._cut()[0]

    def take(self, token: int, ends: Container[int]) -> None:
        """The next token; one of ``ends`` is the model's own end."""
        self.tokens.append(token)
        if token in ends:
            self.reason = "stop"
            return  # it is no part of the text, be it a special token or not
        self._shown = len(self.tokens)
        if self._stop and self._cut()[1]:
            self.reason = "stop"
        elif len(self.tokens) >= self.room:
            self.reason = "length"

    def piece(self) -> Piece | None:
        """What can be told by now and was not yet; the last one says why it ends."""
        if self._looked == len(self.tokens):
            return None
        self._looked = len(self.tokens)
        text = self.text
        sure = len(text) - (0 if self.reason else _unsure(text, self._stop))
        if sure <= self._told and not self.reason:
            return None
        new, self._told = text[self._told : sure], sure
        if not self._begun:
            new, self._begun = self.before + new, True
        return Piece(new, self.reason, len(self.tokens))

    def _cut(self) -> tuple[str, bool]:
        """The text before the first stop, and whether there is one."""
        text = self._decode(self.tokens[: self._shown])
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
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
