"""Tokens to text while they become more: what is settled is not read again.

All of them anew at each token would be a millisecond for a thousand, for every text of a batch: as
long as a card takes for the token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]
_BEFORE = 8
"""Tokens that are read together with what follows, and taken off again: without them a text would
lose the space before its first word (SentencePiece), or show that it begins within one (WordPiece).
"""
_MOST = 64
"""Tokens that are read anew at each, before the first of them are settled."""


class Reading:
    """The text of tokens, of which each call has those of the call before and more.

    Args:
        decode: makes text of tokens at once; a letter that is not whole yet is U+FFFD at its end.
        prompt: what the text goes on; empty for one that is a whole by itself.
    """

    def __init__(self, decode: Decode, prompt: Sequence[int] = ()) -> None:
        self._decode = decode
        self._before = list(prompt[-_BEFORE:])
        self._settled = ""
        self._count = 0

    def __call__(self, tokens: list[int]) -> str:
        """The text of all the tokens."""
        rest = tokens[self._count :]
        text = self._behind(self._before, rest)
        whole = self._settled + text
        if len(rest) >= _MOST:
            self._settle(rest, text)
        return whole

    def _behind(self, before: list[int], tokens: list[int]) -> str:
        if not before:
            return self._decode(tokens)
        known, both = self._decode(before), self._decode([*before, *tokens])
        return both[len(known) :] if both.startswith(known) else self._decode(tokens)

    def _settle(self, rest: list[int], text: str) -> None:
        """All but the last tokens, unless a letter or a word would be cut in two there."""
        cut = len(rest) - _BEFORE
        first, before = self._behind(self._before, rest[:cut]), rest[cut - _BEFORE : cut]
        if first + self._behind(before, rest[cut:]) == text:
            self._settled += first
            self._count += cut
            self._before = before
