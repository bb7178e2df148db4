"""Texts in, vectors out, whatever runs them."""

from pathlib import Path

import numpy as np
import pytest

from stoker.models.encoder import Model
from stoker.models.fidelity import check, compare
from stoker.models.manifest import Manifest
from stoker.nouns.errors import BadRequest, HandlerFailed, UnusableModel
from stoker.nouns.settings import Quantization, Task


class Letters:
    """A token a letter."""

    def ids(self, texts):
        return [[ord(letter) for letter in text] for text in texts]


class FirstLetter:
    """A back end whose vector says which text it was given, and that notes its blocks."""

    block_tokens = 128

    def __init__(self):
        self.shapes = []

    def run(self, ids, mask):
        self.shapes.append(ids.shape)
        return np.stack([ids[:, 0], mask.sum(axis=1)], axis=1).astype(np.float32)


@pytest.fixture
def session():
    return FirstLetter()


@pytest.fixture
def model(session):
    manifest = Manifest(
        key="k",
        model="m",
        source_digest="d",
        task=Task.FEATURE_EXTRACTION,
        quantization=Quantization.NONE,
        backend="torch",
        bytes_before=1,
        dimension=2,
    )
    return Model(session, Letters(), manifest, Path("/nowhere"))


def test_each_text_gets_its_own_vector_whatever_its_length(model):
    texts = ["ccc", "a" * 300, "b", "dd" * 20, "e"]
    vectors = model.encode(texts)
    expected = [[ord(text[0]), len(text)] for text in texts]
    np.testing.assert_array_equal(vectors, np.array(expected, dtype=np.float32))


def test_short_texts_run_together_and_long_ones_do_not_pad_them(model, session):
    model.encode(["a" * 200, "b", "c", "d" * 200, "e"])
    assert session.shapes == [(3, 1), (1, 200), (1, 200)]
    assert all(
        rows == 1 or rows * columns <= session.block_tokens for rows, columns in session.shapes
    )


def test_no_texts_are_no_vectors(model):
    assert model.encode([]).shape == (0, 2)


def test_one_string_in_place_of_a_list_is_refused(model):
    with pytest.raises(TypeError, match="takes a list"):
        model.encode("hello")


@pytest.mark.parametrize("value", [0.98, float("nan")])
def test_a_checkpoint_that_answers_otherwise_is_refused_with_what_to_take_instead(value):
    one = np.array([[1.0, 0.0]], dtype=np.float32)
    fidelity = compare(one, one * value)
    with pytest.raises(UnusableModel, match="nearest that may work is 'bf16'"):
        check(fidelity, Quantization.INT8)


def test_a_checkpoint_that_answers_alike_passes():
    one = np.array([[0.6, 0.8]], dtype=np.float32)
    check(compare(one, one), Quantization.INT8)


def test_a_text_without_a_token_is_refused_whoever_is_beside_it(model):
    """Alone it was an error of the model's; beside others a vector of zeros."""
    for texts in ([""], ["", "a"]):
        with pytest.raises(BadRequest, match="has no tokens"):
            model.encode(texts)


def test_a_vector_that_is_no_numbers_is_an_error_and_no_answer(model, session, monkeypatch):
    """fp16 ends at 65504; what passes it is NaN a layer later, and null in JSON."""

    def overflown(ids, mask):
        return np.where(ids[:, :1] == ord("x"), np.nan, 1.0) * np.ones((len(ids), 2), np.float32)

    monkeypatch.setattr(session, "run", overflown)
    assert model.encode(["a", "b"]).tolist() == [[1.0, 1.0]] * 2
    with pytest.raises(HandlerFailed, match="got NaN of this input"):
        model.encode(["a", "x"])
