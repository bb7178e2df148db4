"""Whether two answers to one request say the same: status, type, and body by what it is.

JSON is compared by structure: texts exactly, numbers within a tolerance, vectors by their angle.
Everything else is compared byte by byte.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from stoker.nouns.recording import path_parts

DEFAULT_TOLERANCE = 1e-6
"""What the same model may differ by when its requests run in other company: sums in another order,
rounded to six digits."""
VECTOR = 8
"""Numbers in a row, not all of them whole, that are taken for one vector."""
_KEPT = 10
"""Differences of one answer that are shown; the rest is counted."""
_LONGEST = 200
"""Characters of a value that are shown."""
_JSON_TYPE = "json"


class Verdict(StrEnum):
    """How two answers compare."""

    IDENTICAL = "identical"
    WITHIN = "within tolerance"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as far as it is compared."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class CompareRules:
    """What counts as the same.

    Attributes:
        tolerance: of a number, relative to the larger of the two (and to 1 below it); of a vector,
            of the distance that is 1 minus the cosine for vectors of equal length.
        ignore: paths into JSON whose values may differ (``id``, ``rows[*].time``, ``**.took_ms``).
    """

    tolerance: float = DEFAULT_TOLERANCE
    ignore: tuple[str, ...] = ()


class Difference(NamedTuple):
    """One place where two answers part. ``distance`` is 0 for equal, 1 for what has no measure."""

    path: str
    left: str
    right: str
    distance: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of comparing two answers.

    Attributes:
        distance: the largest; above 1 when not even the statuses are the same.
        differences: beyond the tolerance, the first few.
        count: of those in all.
    """

    verdict: Verdict
    distance: float = 0.0
    differences: tuple[Difference, ...] = ()
    count: int = 0


_SAME = Comparison(Verdict.IDENTICAL)
_OTHER_STATUS = 2.0
_NO_MEASURE = 1.0


def compare(left: Answer, right: Answer, rules: CompareRules) -> Comparison:
    """How two answers to one request compare."""
    if left == right:
        return _SAME
    if left.status != right.status:
        other = Difference("(status)", str(left.status), str(right.status), _OTHER_STATUS)
        return Comparison(Verdict.DIFFERENT, other.distance, (other,), 1)
    found: list[Difference] = []
    kinds = _media_type(left.content_type), _media_type(right.content_type)
    if kinds[0] != kinds[1]:
        found.append(Difference("(content type)", *kinds, _NO_MEASURE))
    if left.body != right.body:
        found += _bodies(left.body, right.body, rules)
    return _judged(found, rules.tolerance)


def _judged(found: list[Difference], tolerance: float) -> Comparison:
    if not found:
        return _SAME
    largest = max(one.distance for one in found)
    beyond = [one for one in found if one.distance > tolerance]
    if not beyond:
        return Comparison(Verdict.WITHIN, largest)
    return Comparison(Verdict.DIFFERENT, largest, tuple(beyond[:_KEPT]), len(beyond))


def _media_type(text: str) -> str:
    return "".join(text.lower().split())


def _bodies(left: bytes, right: bytes, rules: CompareRules) -> Iterator[Difference]:
    try:
        pair = _parsed(left), _parsed(right)
    except (ValueError, RecursionError):
        yield Difference("(body)", _shown(left), _shown(right), _NO_MEASURE)
        return
    yield from _values(*pair, "", [path_parts(path) for path in rules.ignore])


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)  # NaN, and numbers that no 64 bits hold


def _values(left: Any, right: Any, path: str, ignore: list[list[str]]) -> Iterator[Difference]:
    if isinstance(left, dict) and isinstance(right, dict):
        yield from _objects(left, right, path, ignore)
    elif isinstance(left, list) and isinstance(right, list):
        yield from _lists(left, right, path, ignore)
    elif _is_number(left) and _is_number(right):
        distance = _apart(left, right)
        if distance:
            yield Difference(path, _shown(left), _shown(right), distance)
    elif type(left) is not type(right) or left != right:
        yield Difference(path, _shown(left), _shown(right), _NO_MEASURE)


def _objects(
    left: dict[str, Any], right: dict[str, Any], path: str, ignore: list[list[str]]
) -> Iterator[Difference]:
    for name in left | right:
        inner = _inside(ignore, name)
        if inner is None:
            continue
        place = f"{path}.{name}" if path else name
        if name not in right:
            yield Difference(place, _shown(left[name]), "(absent)", _NO_MEASURE)
        elif name not in left:
            yield Difference(place, "(absent)", _shown(right[name]), _NO_MEASURE)
        else:
            yield from _values(left[name], right[name], place, inner)


def _lists(
    left: list[Any], right: list[Any], path: str, ignore: list[list[str]]
) -> Iterator[Difference]:
    if len(left) != len(right):
        counts = f"{len(left)} elements", f"{len(right)} elements"
        yield Difference(path or "(body)", *counts, _NO_MEASURE)
    elif not ignore and _is_vector(left) and _is_vector(right):
        distance = vector_distance(left, right)
        if distance:
            yield Difference(path or "(body)", _vector(left), _vector(right), distance)
    else:
        for index, pair in enumerate(zip(left, right, strict=True)):
            inner = _inside(ignore, str(index))
            if inner is not None:
                yield from _values(*pair, f"{path}[{index}]", inner)


def _inside(ignore: list[list[str]], name: str) -> list[list[str]] | None:
    """What is still to be ignored inside a member or element; None: all of it."""
    if not ignore:
        return ignore
    inner: list[list[str]] = []
    for parts in ignore:
        rest = parts
        if rest[0] == "**":
            inner.append(parts)
            rest = parts[1:]
            if not rest:
                return None
        if rest[0] in ("*", name):
            if len(rest) == 1:
                return None
            inner.append(rest[1:])
    return inner


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_vector(values: list[Any]) -> bool:
    return (
        len(values) >= VECTOR
        and all(type(value) in (float, int) for value in values)
        and any(type(value) is float for value in values)
    )


def _apart(left: float, right: float) -> float:
    if left == right or (left != left and right != right):
        return 0.0
    apart = abs(left - right) / max(1.0, abs(left), abs(right))
    return apart if math.isfinite(apart) else _NO_MEASURE


def vector_distance(left: Sequence[float], right: Sequence[float]) -> float:
    """How far apart two vectors are: for equal lengths 1 minus the cosine, and more otherwise.

    >>> round(vector_distance([1.0, 0.0], [0.0, 1.0]), 9), vector_distance([1.0], [1.0])
    (1.0, 0.0)
    >>> vector_distance([2.0, 0.0], [1.0, 0.0])
    0.25
    """
    apart = math.dist(left, right)
    if apart == 0.0:
        return 0.0
    lengths = 2.0 * math.hypot(*left) * math.hypot(*right)
    distance = apart * apart / lengths if lengths else _NO_MEASURE
    return distance if math.isfinite(distance) else _NO_MEASURE


def _vector(values: list[Any]) -> str:
    """Its beginning: nobody reads hundreds of numbers."""
    first = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"[{first}, … {len(values)} numbers]"


def _shown(value: Any) -> str:
    """A value for people, cut where it becomes long."""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
    else:
        text = json.dumps(value[:_LONGEST] if isinstance(value, (str, list)) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
