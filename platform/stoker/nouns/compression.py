"""What a function says about making its model smaller: ``STOKER_PRUNE`` and ``STOKER_DISTILL``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_STEPS = 20_000
"""A build step is waited for; what takes more steps is a training job's."""
_PRUNINGS = ("layers", "magnitude", "2:4")
_LAYERS = re.compile(r"layers:(?P<value>\d+(?:,\d+)*)$")


@dataclass(frozen=True, slots=True)
class Pruning:
    """What is taken out of a model; layers go first, then weights.

    Attributes:
        count: layers that stay, evenly spaced; 0 where they are listed or all stay.
        kept: layers that stay, by their numbers from 0; empty where they are counted or all stay.
        amount: share of each matrix's weights that become zero, those of the least magnitude;
            0 where none do so.
        two_of_four: whether two of every four weights in a row become zero.
    """

    count: int = 0
    kept: tuple[int, ...] = ()
    amount: float = 0.0
    two_of_four: bool = False

    @property
    def shortens(self) -> bool:
        """Whether layers are taken out."""
        return bool(self.count or self.kept)

    @property
    def zeroes(self) -> bool:
        """Whether weights become zero."""
        return bool(self.amount or self.two_of_four)

    def __str__(self) -> str:
        layers = str(self.count) if self.count else ",".join(map(str, self.kept))
        parts = [f"layers:{layers}"] if self.shortens else []
        parts += [f"magnitude:{self.amount:g}"] if self.amount else []
        return ",".join([*parts, *(["2:4"] if self.two_of_four else [])])


class Teaching(StrEnum):
    """What a student learns of its teacher."""

    FEATURES = "features"
    """Its vectors, and the states of its layers."""
    SOFT_LABELS = "soft-labels"
    """How sure it is of every answer."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a student is taught.

    Attributes:
        by: what it learns.
        steps: of the optimiser; 0 where epochs are declared.
        epochs: passes over the texts; 0 where steps are declared.
        batch: texts a step.
        rate: the learning rate at its highest.
        temperature: by which logits are divided before they are compared.
        seed: of the order of the texts, and of which are held out.
    """

    by: Teaching
    steps: int = 200
    epochs: int = 0
    batch: int = 16
    rate: float = 3e-4
    temperature: float = 2.0
    seed: int = 0

    def __str__(self) -> str:
        long = f"epochs={self.epochs}" if self.epochs else f"steps={self.steps}"
        return (
            f"{self.by},{long},batch={self.batch},rate={self.rate:g},"
            f"temperature={self.temperature:g},seed={self.seed}"
        )

    def steps_over(self, texts: int) -> int:
        """Steps that it takes to be taught on so many texts.

        >>> Distillation(Teaching.FEATURES, steps=0, epochs=2, batch=16).steps_over(40)
        6
        """
        return self.epochs * math.ceil(texts / self.batch) if self.epochs else self.steps


def read_pruning(text: str) -> Pruning | None:
    """What ``STOKER_PRUNE`` declares; nothing, if it is empty.

    >>> read_pruning("2:4, layers:0,2,5")
    Pruning(count=0, kept=(0, 2, 5), amount=0.0, two_of_four=True)

    Raises:
        ValueError: what was wrong and what it must be.
    """
    found: dict[str, Any] = {}
    for part in _parts(text):
        one = _one_pruning(part)
        kind = "layers" if one.keys() & {"count", "kept"} else "weights"
        if kind in found:
            raise ValueError(
                f"must say once which {kind} go, says {found[kind]!r} and {part!r}: take one"
            )
        found |= {kind: part, "values": found.get("values", {}) | one}
    return Pruning(**found["values"]) if found else None


def read_distillation(text: str) -> Distillation | None:
    """What ``STOKER_DISTILL`` declares; nothing, if it is empty.

    >>> str(read_distillation("features, epochs=3, rate=1e-4"))
    'features,epochs=3,batch=16,rate=0.0001,temperature=2,seed=0'

    Raises:
        ValueError: what was wrong and what it must be.
    """
    parts = [part for part in (one.strip() for one in text.split(",")) if part]
    if not parts:
        return None
    by = parts[0].lower().replace("_", "-")
    kinds = [str(one) for one in Teaching]
    if by not in kinds:
        raise ValueError(
            f"must begin with {' or '.join(kinds)}, was {parts[0]!r}{_guess(by, kinds)}"
        )
    values: dict[str, Any] = {}
    for part in parts[1:]:
        name, equals, value = (one.strip() for one in part.partition("="))
        if name not in _READERS or not equals:
            raise ValueError(
                f"must be {by},name=value with names of {', '.join(_READERS)}, was {part!r}"
                f"{_guess(name, [*_READERS])}"
            )
        values[name] = _READERS[name](name, value)
    if "epochs" in values:
        if "steps" in values:
            raise ValueError("must say steps or epochs, says both: take one")
        values["steps"] = 0
    return Distillation(Teaching(by), **values)


def _parts(text: str) -> list[str]:
    """Its parts; a number alone goes on with the layers before it."""
    parts: list[str] = []
    for part in (one.strip().lower() for one in text.split(",")):
        if part.isdigit() and parts and parts[-1].startswith("layers:"):
            parts[-1] += f",{part}"
        elif part:
            parts.append(part)
    return parts


def _one_pruning(part: str) -> dict[str, Any]:
    if part == "2:4":
        return {"two_of_four": True}
    name, _, value = part.partition(":")
    if name == "magnitude":
        return {"amount": _number("magnitude", value, above=0, below=1)}
    if name == "layers":
        return _layers(part)
    raise ValueError(
        f"must be of layers:4 (how many stay), layers:0,2,5 (which), magnitude:0.3 and 2:4, "
        f"was {part!r}{_guess(name, _PRUNINGS)}"
    )


def _layers(part: str) -> dict[str, Any]:
    matched = _LAYERS.match(part)
    if matched is None:
        raise ValueError(f"must be layers:4 (how many stay) or layers:0,2,5 (which), was {part!r}")
    numbers = tuple(int(one) for one in matched["value"].split(","))
    if len(numbers) == 1:
        if numbers[0] < 1:
            raise ValueError("must keep at least one layer (layers:1), was 'layers:0'")
        return {"count": numbers[0]}
    if list(numbers) != sorted(set(numbers)):
        raise ValueError(f"must list layers in their order, each once, was {part!r}")
    return {"kept": numbers}


def _number(name: str, text: str, *, above: float, below: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not above < value < below:
        limit = "" if below == math.inf else f" and below {below:g}"
        raise ValueError(f"{name} must be a number above {above:g}{limit}, was {text!r}")
    return value


def _whole(least: int, most: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"{name} must be a whole number from {least} to {most}, was {text!r}")
        return int(text)

    return read


def _above_zero(name: str, text: str) -> float:
    return _number(name, text, above=0)


_READERS: dict[str, Callable[[str, str], Any]] = {
    "steps": _whole(1, MOST_STEPS),
    "epochs": _whole(1, 1000),
    "batch": _whole(1, 1024),
    "rate": _above_zero,
    "temperature": _above_zero,
    "seed": _whole(0, 2**31),
}


def _guess(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
