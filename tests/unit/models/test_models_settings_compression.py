"""What a function's environment may say about making its model smaller."""

import pytest

from stoker.nouns.compression import Pruning, Teaching
from stoker.nouns.errors import InvalidFunction
from stoker.nouns.settings import ModelSettings


def message_of(name, value):
    with pytest.raises(InvalidFunction) as refused:
        ModelSettings.read({name: value})
    fields = refused.value.detail["fields"]
    assert [field["field"] for field in fields] == [name]
    return fields[0]["message"]


@pytest.mark.parametrize(
    ("text", "pruning"),
    [
        ("layers:4", Pruning(count=4)),
        (" Layers:0,2,3,5 ", Pruning(kept=(0, 2, 3, 5))),
        ("magnitude:.3", Pruning(amount=0.3)),
        ("2:4", Pruning(two_of_four=True)),
        ("magnitude:0.3,layers:0, 2", Pruning(kept=(0, 2), amount=0.3)),
        ("", None),
    ],
)
def test_layers_and_weights_are_declared_in_any_order(text, pruning):
    assert ModelSettings.read({"STOKER_PRUNE": text}).prune == pruning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magnitud:0.3", "did you mean 'magnitude'?"),
        ("0.3", "must be of layers:4 (how many stay)"),
        ("magnitude", "a number above 0 and below 1, was ''"),
        ("magnitude:0", "a number above 0 and below 1, was '0'"),
        ("magnitude:30", "a number above 0 and below 1, was '30'"),
        ("magnitude:nan", "a number above 0 and below 1, was 'nan'"),
        ("layers:0", "must keep at least one layer"),
        ("layers:x", "must be layers:4 (how many stay) or layers:0,2,5 (which), was 'layers:x'"),
        ("layers:2,1", "in their order, each once"),
        ("layers:1,1", "in their order, each once"),
        ("magnitude:0.3,2:4", "must say once which weights go"),
        ("layers:4,magnitude:0.3,layers:2", "must say once which layers go"),
    ],
)
def test_a_pruning_that_means_nothing_is_answered_with_what_it_must_be(text, message):
    assert message in message_of("STOKER_PRUNE", text)


def test_a_pruning_is_spelt_in_one_way():
    """Two spellings of one recipe would be prepared twice."""
    texts = ("2:4,layers:3", "layers:3, 2:4", "LAYERS:3,2:4,")
    assert {str(ModelSettings.read({"STOKER_PRUNE": one}).prune) for one in texts} == {
        "layers:3,2:4"
    }


def test_a_distillation_says_how_it_is_taught():
    text = "soft_labels, epochs=3, rate=1e-4, batch=8, temperature=4, seed=7"
    found = ModelSettings.read({"STOKER_DISTILL": text}).distill
    assert found is not None
    assert found.by is Teaching.SOFT_LABELS
    assert (found.steps, found.epochs, found.rate, found.batch) == (0, 3, 1e-4, 8)
    assert (found.temperature, found.seed) == (4, 7)
    assert found.steps_over(17) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature", "did you mean 'features'?"),
        ("features,step=3", "did you mean 'steps'?"),
        ("features,100", "must be features,name=value"),
        ("features,steps=0", "steps must be a whole number from 1 to 20000"),
        ("features,rate=0", "rate must be a number above 0"),
        ("features,rate=fast", "rate must be a number above 0, was 'fast'"),
        ("features,steps=2,epochs=1", "must say steps or epochs"),
    ],
)
def test_a_distillation_that_means_nothing_is_answered_with_what_it_must_be(text, message):
    assert message in message_of("STOKER_DISTILL", text)


def test_a_variable_with_a_typo_is_refused_rather_than_ignored():
    assert message_of("STOKER_PRUNES", "2:4") == "did you mean STOKER_PRUNE?"
