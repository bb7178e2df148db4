"""Feature extraction as a task, and what `load_model` gives to a handler."""

import nuclio_sdk
import numpy as np
import pytest

import tiny_tasks
from stoker.models.encoder import Model
from stoker.models.tasks import as_task
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import Task
from stoker.sdk import load_model


class Letters:
    """A token a letter."""

    def ids(self, texts):
        return [[ord(letter) for letter in text] for text in texts]


class FirstLetter:
    """A back end whose vector says which text it was given."""

    block_tokens = 128

    def run(self, ids, mask):
        return np.stack([ids[:, 0], mask.sum(1)], axis=1).astype(np.float32)


class Quiet:
    def __getattr__(self, _name):
        return lambda *_args, **_more: None


@pytest.fixture
def encoder(tmp_path):
    manifest = tiny_tasks.manifest(Task.FEATURE_EXTRACTION)
    return Model(FirstLetter(), Letters(), manifest, tmp_path)


TEXTS = ["ccc", "a" * 300, "b", "d" * 40_000, "e"]
VECTORS = [[ord(text[0]), len(text)] for text in TEXTS]


def test_each_text_gets_its_own_vector_whatever_its_length(encoder):
    np.testing.assert_array_equal(as_task(encoder)(TEXTS), VECTORS)
    assert as_task(encoder)([]) == []


def test_a_task_is_left_as_it_is(encoder):
    task = as_task(encoder)
    assert as_task(task) is task


def test_what_is_no_text_is_refused_with_its_place(encoder):
    with pytest.raises(BadRequest, match=r"inputs\[1\]: an input must be a text, was a int"):
        as_task(encoder)(["a", 3])


def test_parameters_are_refused_as_it_has_none(encoder):
    with pytest.raises(BadRequest, match=r"parameters\.top_k: is not known"):
        as_task(encoder)(["a"], {"top_k": 1})
    with pytest.raises(BadRequest, match="has no adapter 'x'; it has none"):
        as_task(encoder)(["a"], {"adapter": "x"})


def test_a_handler_gets_a_model_that_encodes_and_can_be_called(encoder, monkeypatch):
    monkeypatch.setattr("stoker.models.load.load_from", lambda *_: encoder)
    model = load_model(nuclio_sdk.Context(logger=Quiet()))
    np.testing.assert_array_equal(model.encode(TEXTS), VECTORS)
    np.testing.assert_array_equal(model(TEXTS), VECTORS)
    assert model.manifest.key == "tiny"
    assert model.dimension == 2
    assert model.token_counts(["abc", "d"]) == [3, 1]
