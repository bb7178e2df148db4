"""What a replay found: ``replay.json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EXIT_EQUAL = 0
EXIT_NOTHING = 1
EXIT_DIFFERENT = 3
"""Of ``stoker ci replay``; 1 also is any failure of the verb itself."""


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class Place(_Result):
    """One place where two answers part. ``distance`` is 1 for what has no measure."""

    path: str
    baseline: str
    candidate: str
    distance: float


class ReplayItem(_Result):
    """One request that was answered differently, or not at all.

    Attributes:
        item: its number in the set as it was replayed, from 0.
        outcome: ``different``; ``altered``: the request was redacted before it was written, so that
            its recorded answer is one to another request; ``failed``: there is no answer.
        sender: who asked: ``gateway``, ``graph flow/embed``.
        request, baseline, candidate: for people, redacted and cut.
        places: the first few; ``place_count`` is of them all.
        error: of a failed one.
    """

    item: int
    outcome: Literal["different", "altered", "failed"]
    sender: str
    method: str
    path: str
    revision: int
    distance: float
    request: str
    baseline: str
    candidate: str
    places: tuple[Place, ...] = ()
    place_count: int = 0
    error: str = ""


class ReplayResult(_Result):
    """A whole replay.

    Attributes:
        baseline, candidate: what was compared, for people.
        sent: requests that were replayed.
        identical, within, different, altered, failed: of those; ``within`` the tolerance.
        redacted: of those, requests that a rule had changed before they were written.
        largest: the largest distance among those that are the same.
        items: the failed ones, then the most different, the first few.
        notes: what to know when reading it.
    """

    format: Literal[1] = 1
    function: str
    baseline: str
    candidate: str
    tolerance: float
    ignore: tuple[str, ...] = ()
    started_at: float
    seconds: float = 0.0
    sent: int = 0
    identical: int = 0
    within: int = 0
    different: int = 0
    altered: int = 0
    failed: int = 0
    redacted: int = 0
    largest: float = 0.0
    items: tuple[ReplayItem, ...] = ()
    notes: tuple[str, ...] = Field(default=())

    @property
    def exit_code(self) -> int:
        """0: all that could be compared is the same; 3: something differs; 1: nothing was compared.

        What was not answered counts as different: a revision that answers nothing is not the same.
        """
        if self.different or self.failed:
            return EXIT_DIFFERENT
        return EXIT_EQUAL if self.identical + self.within else EXIT_NOTHING

    @property
    def words(self) -> str:
        """The finding in a sentence."""
        same = self.identical + self.within
        if self.exit_code == EXIT_EQUAL:
            text = f"no differences: {same} of {same} answers are the same"
        elif self.exit_code == EXIT_NOTHING:
            text = "nothing was compared"
        else:
            parts = [f"{self.different} of {same + self.different} answers differ"]
            parts += [f"{self.failed} requests were not answered"] if self.failed else []
            text = ", ".join(parts)
        return f"{text} ({self.altered} cannot be compared)" if self.altered else text
