"""What running out of device memory teaches."""

from __future__ import annotations

import pytest

from stoker.decide.learn import learned, modest, with_shortage
from stoker.nouns.record import ModelBytes, Revision

GIB = 1 << 30
PREPARED = ModelBytes(key="k", weights=GIB, measured=2 * GIB)


def told(*refusals: tuple[int, int], model: ModelBytes | None = None) -> ModelBytes | None:
    """What is known after refusals of (times, GiB)."""
    for times, gib in refusals:
        model = with_shortage(model, times, gib * GIB)
    return model


@pytest.mark.parametrize(
    ("refusals", "gib"),
    [
        ([], 0),
        ([(1, 5)], 0),
        ([(2, 5)], 5),
        ([(1, 5), (1, 3)], 5),
        ([(1, 3), (1, 5), (1, 4)], 5),
    ],
)
def test_one_request_too_large_is_its_senders_two_are_the_promises(
    refusals: list[tuple[int, int]], gib: int
) -> None:
    assert learned(told(*refusals)) == gib * GIB
    assert learned(told(*refusals, model=PREPARED)) == gib * GIB


def test_nothing_is_written_of_a_refusal_that_is_no_news() -> None:
    known = told((2, 5))
    assert with_shortage(known, 7, 4 * GIB) is known
    assert with_shortage(known, 1, 6 * GIB) is not known


@pytest.mark.parametrize(
    ("model", "without"),
    [
        (None, None),
        (PREPARED, None),
        (told((1, 5), model=PREPARED), None),
        (told((2, 5), model=PREPARED), PREPARED),
        (told((2, 5)), "unknown"),
    ],
)
def test_what_it_had_before_is_known_still(
    model: ModelBytes | None, without: ModelBytes | str | None
) -> None:
    revision = Revision(number=1, document={"metadata": {"name": "fn"}, "spec": {}}, model=model)
    had = modest(revision)
    if without is None:
        assert had is None
    else:
        assert had is not None
        assert had.model == (None if without == "unknown" else without)
