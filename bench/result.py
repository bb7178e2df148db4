"""What a benchmark hands back: figures beside their targets."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Target:
    """``>=`` or ``<=`` a number, in the unit of what is judged."""

    sign: str
    limit: float

    def met_by(self, value: float) -> bool:
        """Whether the value is on the right side.

        >>> Target(">=", 0.5).met_by(0.5), Target("<=", 150).met_by(151)
        (True, False)
        """
        return bool({">=": operator.ge, "<=": operator.le}[self.sign](value, self.limit))


def at_least(limit: float) -> Target:
    """Reached by the limit and by more."""
    return Target(">=", limit)


def at_most(limit: float) -> Target:
    """Reached by the limit and by less."""
    return Target("<=", limit)


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        value, reference: in ``unit``; the reference was measured in the same run.
        ratio: value against reference, by rounds; it is what the target judges when there is one.
        target: None for a figure that is shown for its own sake.
    """

    name: str
    value: float
    unit: str
    reference: float | None = None
    ratio: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def judged(self) -> float:
        """What the target is held against."""
        return self.value if self.ratio is None else self.ratio

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.target.met_by(self.judged)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True)
class Result:
    """One benchmark's figures, what could not be measured and why, and the raw rounds."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "figures": [figure.document() for figure in self.figures],
            "not_run": self.not_run,
            "details": self.details,
        }


class CannotRun(Exception):
    """A benchmark lacks what it needs; the message says what, and how to get it."""
