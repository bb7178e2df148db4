"""Whether two answers say the same."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.decide.compare import Answer, CompareRules, Comparison, Verdict, compare

JSON = "application/json"
VECTOR = [math.sin(n) for n in range(64)]


def answers(left: Any, right: Any, *ignore: str, tolerance: float = 1e-6) -> Comparison:
    raw = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in (left, right)]
    rules = CompareRules(tolerance=tolerance, ignore=ignore)
    return compare(Answer(200, JSON, raw[0]), Answer(200, JSON, raw[1]), rules)


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, Verdict.IDENTICAL),
        (b'{"a":1}', b'{ "a" : 1.0 }', Verdict.IDENTICAL),
        ({"a": "x"}, {"a": "X"}, Verdict.DIFFERENT),
        ({"a": 1.0}, {"a": 1.0 + 5e-7}, Verdict.WITHIN),
        ({"a": 1.0}, {"a": 1.0 + 5e-6}, Verdict.DIFFERENT),
        ({"a": 1e9}, {"a": 1e9 + 100}, Verdict.WITHIN),
        ({"a": 1e9}, {"a": 1e9 + 10_000}, Verdict.DIFFERENT),
        ({"a": True}, {"a": 1}, Verdict.DIFFERENT),
        ({"a": None}, {"a": 0}, Verdict.DIFFERENT),
        ({"a": "1"}, {"a": 1}, Verdict.DIFFERENT),
        ({"a": 1}, {}, Verdict.DIFFERENT),
        ({}, {"a": None}, Verdict.DIFFERENT),
        ([1, 2], [1, 2, 3], Verdict.DIFFERENT),
        ([1, 2], [2, 1], Verdict.DIFFERENT),
        (b'{"a": NaN}', b'{"a":NaN}', Verdict.IDENTICAL),
        (b'{"a": NaN}', b'{"a": 1}', Verdict.DIFFERENT),
        (b'{"a": Infinity}', b'{"a": 1}', Verdict.DIFFERENT),
        (b"plain", b"plain ", Verdict.DIFFERENT),
        (b"\xff\x00", b"\xff\x01", Verdict.DIFFERENT),
        (b"\xff\x00", b"\xff\x00", Verdict.IDENTICAL),
        (b"[" * 100_000, b"[" * 100_001, Verdict.DIFFERENT),
    ],
)
def test_bodies(left: Any, right: Any, verdict: Verdict) -> None:
    assert answers(left, right).verdict is verdict
    assert answers(right, left).verdict is verdict


def test_a_vector_is_judged_by_its_angle_not_element_by_element() -> None:
    turned = [value + 1e-4 * math.cos(n) for n, value in enumerate(VECTOR)]
    assert max(abs(a - b) for a, b in zip(VECTOR, turned, strict=True)) > 1e-5
    assert answers({"v": VECTOR}, {"v": turned}).verdict is Verdict.WITHIN
    far = [value + 1e-1 * math.cos(n) for n, value in enumerate(VECTOR)]
    found = answers({"v": VECTOR}, {"v": far})
    assert found.verdict is Verdict.DIFFERENT
    assert found.differences[0].path == "v"
    assert found.distance == pytest.approx(0.005, rel=0.1)


def test_a_vector_of_another_length_is_another_vector() -> None:
    assert answers(VECTOR, [2 * value for value in VECTOR]).verdict is Verdict.DIFFERENT
    assert answers([0.0] * 9, [0.0] * 8 + [1.0]).verdict is Verdict.DIFFERENT


def test_whole_numbers_in_a_row_are_no_vector() -> None:
    tokens = list(range(1000, 1064))
    other = [*tokens[:-1], tokens[-1] + 1]
    found = answers({"ids": tokens}, {"ids": other})
    assert found.verdict is Verdict.DIFFERENT
    assert found.differences[0].path == "ids[63]"


@pytest.mark.parametrize("path", ["rows[*].id", "rows.*.id", "**.id", "*[0].id", "rows[0]"])
def test_what_is_declared_to_vary_may_vary(path: str) -> None:
    left, right = ({"rows": [{"id": n, "x": 1}]} for n in ("a", "b"))
    assert answers(left, right).verdict is Verdict.DIFFERENT
    assert answers(left, right, path).verdict is Verdict.IDENTICAL


def test_nothing_but_what_is_declared_may_vary() -> None:
    left, right = ({"rows": [{"id": n, "x": n}]} for n in (1, 2))
    found = answers(left, right, "rows[*].id")
    assert [one.path for one in found.differences] == ["rows[0].x"]
    assert answers({"a": {"id": 1}}, {}, "a.id").verdict is Verdict.DIFFERENT
    assert answers({"id": 1}, {}, "id").verdict is Verdict.IDENTICAL


def test_another_status_is_farther_than_any_body() -> None:
    rules = CompareRules(tolerance=1.0)
    found = compare(Answer(200, JSON, b"{}"), Answer(500, JSON, b"{}"), rules)
    assert (found.verdict, found.differences[0].path) == (Verdict.DIFFERENT, "(status)")
    assert found.distance > answers({"a": 1}, {"a": "b"}).distance


def test_another_type_is_a_difference_and_its_spelling_is_none() -> None:
    rules = CompareRules()
    text = "text/plain; charset=utf-8"
    same = compare(Answer(200, text, b"x"), Answer(200, "Text/Plain;charset=UTF-8", b"x"), rules)
    assert same.verdict is Verdict.IDENTICAL
    other = compare(Answer(200, text, b"x"), Answer(200, JSON, b"x"), rules)
    assert [one.path for one in other.differences] == ["(content type)"]


def test_of_many_differences_a_few_are_shown_and_all_are_counted() -> None:
    found = answers(list(range(50)), list(range(1, 51)))
    assert (len(found.differences), found.count) == (10, 50)


def test_long_values_are_cut() -> None:
    found = answers({"a": "x" * 10_000}, {"a": "y" * 10_000})
    assert all(len(text) <= 200 for text in found.differences[0][1:3])


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_values)
def test_whatever_it_is_it_is_identical_to_itself(value: Any) -> None:
    left, right = json.dumps(value).encode(), json.dumps(value, indent=1).encode()
    assert answers(left, right).verdict is Verdict.IDENTICAL


@given(_values, _values)
def test_it_does_not_matter_which_comes_first(one: Any, other: Any) -> None:
    there, back = answers(one, other), answers(other, one)
    assert (there.verdict, there.distance, there.count) == (
        back.verdict,
        back.distance,
        back.count,
    )
