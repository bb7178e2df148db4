"""When a batch leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.decide.batch import Assembly, assemble, leave_by


@pytest.mark.parametrize(
    ("waiting", "leave", "busy", "closing", "now", "expected"),
    [
        pytest.param(0, 0.0, False, False, 5.0, Assembly(0), id="nothing waits"),
        pytest.param(3, 6.0, False, False, 5.0, Assembly(0, 6.0), id="company may still come"),
        pytest.param(3, 5.0, False, False, 5.0, Assembly(3), id="the first waited long enough"),
        pytest.param(4, 6.0, False, False, 5.0, Assembly(4), id="full at once"),
        pytest.param(9, 6.0, False, False, 5.0, Assembly(4), id="never over the size"),
        pytest.param(9, 1.0, True, False, 5.0, Assembly(0), id="busy, and no timer either"),
        pytest.param(2, 6.0, False, True, 5.0, Assembly(2), id="draining: nobody else comes"),
    ],
)
def test_a_batch_leaves_when_it_is_due(
    waiting: int, leave: float, busy: bool, closing: bool, now: float, expected: Assembly
) -> None:
    assert assemble(waiting, leave, size=4, busy=busy, closing=closing, now=now) == expected


@given(
    st.integers(0, 50),
    st.floats(0, 100),
    st.integers(1, 20),
    st.booleans(),
    st.booleans(),
    st.floats(0, 100),
)
def test_a_batch_never_exceeds_its_size_nor_forgets_to_ask_again(
    waiting: int, leave: float, size: int, busy: bool, closing: bool, now: float
) -> None:
    """BentoML#3710: batches larger than the declared size."""
    plan = assemble(waiting, leave, size=size, busy=busy, closing=closing, now=now)
    assert 0 <= plan.take <= min(size, waiting)
    assert not (busy and plan.take)
    if waiting and not busy and not plan.take:
        assert plan.wait_until is not None
        assert plan.wait_until > now


def test_an_event_with_a_short_deadline_does_not_wait_it_out() -> None:
    assert leave_by(10.0, None, 2.0) == 12.0
    assert leave_by(10.0, 11.0, 2.0) == 10.5
    assert leave_by(10.0, 9.0, 2.0) == 10.0
