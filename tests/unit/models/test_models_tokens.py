"""Cutting texts into blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stoker.models.tokens import blocks, padded

LENGTHS = st.lists(st.integers(min_value=1, max_value=300), max_size=60)


@given(LENGTHS, st.integers(min_value=1, max_value=512))
def test_every_text_is_in_exactly_one_block(lengths, budget):
    seen = [index for block in blocks(lengths, budget) for index in block]
    assert sorted(seen) == list(range(len(lengths)))


@given(LENGTHS, st.integers(min_value=1, max_value=512))
def test_no_block_of_several_texts_is_over_the_budget(lengths, budget):
    for block in blocks(lengths, budget):
        assert len(block) == 1 or max(lengths[i] for i in block) * len(block) <= budget


def test_padding_is_masked_out():
    ids, mask = padded([[5, 6, 7], [8]])
    np.testing.assert_array_equal(ids, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [1, 0, 0]])
