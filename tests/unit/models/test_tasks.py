"""Every task beside transformers' own pipeline, on tiny models that are random but real."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers

import tiny_tasks
from stoker.models.oip.tensor import Tensor, texts_tensor
from stoker.models.tasks import open_task
from stoker.models.torch_session import TorchSession
from stoker.nouns.errors import BadRequest, HandlerFailed, UnusableModel
from stoker.nouns.settings import ModelSettings, Task

pytestmark = pytest.mark.models
TEXTS = ["the cat sat", "a very good dog ran under the tree, not the cat", "zzz", "bad"]
ENTITIES = {0: "O", 1: "B-WHO", 2: "I-WHO"}


def opened(folder, task, build, *args, **more):
    module = build(folder, *args, **more)
    return open_task(module, folder, tiny_tasks.manifest(task), ModelSettings(task=task))


def pipeline(name, model, **more):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.folder)
    return transformers.pipeline(name, model=model._module, tokenizer=tokenizer, **more)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return opened(
        tmp_path_factory.mktemp("classifier"),
        Task.TEXT_CLASSIFICATION,
        tiny_tasks.bert,
        "BertForSequenceClassification",
        num_labels=3,
    )


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return opened(
        tmp_path_factory.mktemp("tagger"),
        Task.TOKEN_CLASSIFICATION,
        tiny_tasks.bert,
        "BertForTokenClassification",
        id2label=ENTITIES,
        label2id={name: index for index, name in ENTITIES.items()},
    )


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filler")
    return opened(folder, Task.FILL_MASK, tiny_tasks.bert, "BertForMaskedLM")


def same(ours, theirs):
    """Equal but for the last digits of scores."""
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            same(ours[name], value)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(theirs, (float, np.floating)):
        assert ours == pytest.approx(float(theirs), abs=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize("function", [None, "softmax", "sigmoid", "none"])
@pytest.mark.parametrize("top_k", [1, 2, None])
def test_labels_are_those_of_the_pipeline(classifier, top_k, function):
    parameters = {"top_k": top_k, "function_to_apply": function}
    theirs = pipeline("text-classification", classifier)(
        TEXTS, **{name: value for name, value in parameters.items() if value or name == "top_k"}
    )
    theirs = [row if isinstance(row, list) else [row] for row in theirs]
    same(classifier(TEXTS, parameters), theirs)


def test_two_texts_are_compared_as_the_pipeline_does(classifier):
    pair = {"text": "the cat", "text_pair": "a dog"}
    same(
        classifier([pair], {"top_k": 3})[0],
        pipeline("text-classification", classifier)(pair, top_k=3),
    )


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_entities_are_those_of_the_pipeline(tagger, strategy):
    theirs = pipeline("token-classification", tagger, aggregation_strategy=strategy)(TEXTS)
    assert any(theirs)
    ours = tagger(TEXTS, {"aggregation_strategy": strategy})
    same(ours, theirs)
    json.dumps(ours)


def test_labels_that_nobody_wants_are_left_out(tagger):
    named = tagger(TEXTS, {"ignore_labels": ["O", "B-WHO"]})
    assert {one["entity"] for row in named for one in row} == {"I-WHO"}


@pytest.mark.parametrize("text", ["the [MASK] sat on the tree", "a [MASK] dog [MASK] ran"])
def test_proposals_are_those_of_the_pipeline(filler, text):
    theirs = pipeline("fill-mask", filler)(text, top_k=3)
    same(filler(["bad [MASK]", text], {"top_k": 3})[1], theirs)


def test_a_text_without_a_hole_says_what_is_missing(filler):
    with pytest.raises(BadRequest, match=r"no \[MASK\] to fill"):
        filler(["the cat"])


def test_neighbours_change_nothing_of_a_result(classifier):
    alone = [classifier([text])[0] for text in TEXTS]
    same(classifier(TEXTS), alone)
    same(classifier(TEXTS[::-1]), alone[::-1])


def test_texts_of_like_length_run_together(classifier, monkeypatch):
    shapes = []
    batch = classifier._texts.batch
    monkeypatch.setattr(
        classifier._texts, "batch", lambda rows: shapes.append(len(rows)) or batch(rows)
    )
    monkeypatch.setattr(type(classifier), "block_cost", 24)
    classifier(["cat " * 20, "cat", "dog " * 18, "dog", "bad"])
    assert sorted(shapes) == [1, 1, 3]


def test_a_text_over_the_model_s_context_is_refused_with_the_numbers(classifier):
    with pytest.raises(BadRequest, match=r"inputs\[1\]: the input has 102 tokens, .* takes 40"):
        classifier(["cat", "cat " * 100])


def test_a_text_is_cut_for_those_who_ask_for_it(classifier):
    same(classifier(["cat " * 100], {"truncation": True}), classifier(["cat " * 38]))


@pytest.mark.parametrize("value", [3, None, ["the"], b"cat", {"text": 3}, {"txt": "cat"}])
def test_what_is_no_text_is_refused(classifier, value):
    with pytest.raises(BadRequest, match="input must be a text"):
        classifier([value])


def test_one_text_in_the_place_of_a_list_is_refused(classifier):
    with pytest.raises(TypeError, match="takes a list of inputs, was one str"):
        classifier("the cat")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"topk": 1}, "parameters.topk: is not known; did you mean top_k?"),
        ({"top_k": 0}, "parameters.top_k: must be greater than or equal to 1, was 0"),
        ({"top_k": "many"}, "was 'many'"),
        ({"function_to_apply": "max"}, "'softmax', 'sigmoid' or 'none', was 'max'"),
        ({"adapter": "x"}, "has no adapter 'x'; it has none"),
    ],
)
def test_a_wrong_parameter_is_named(classifier, parameters, message):
    with pytest.raises(BadRequest) as caught:
        classifier(["cat"], parameters)
    assert message in caught.value.message


def test_tensors_have_every_label_in_the_model_s_order(classifier):
    options = classifier.options({"top_k": 1}, tensors=True)
    inputs = classifier.inputs_from({"text": texts_tensor("text", TEXTS)})
    results = classifier.run([classifier.read(one, options) for one in inputs], options)
    label, scores = classifier.tensors_from(results)
    assert [spec.name for spec in classifier.output_specs] == [label.name, scores.name]
    assert scores.values.shape == (len(TEXTS), 3)
    expected = classifier(TEXTS)
    for row, text_label, result in zip(scores.values, label.values, expected, strict=True):
        assert text_label.decode() == result[0]["label"]
        by_name = {one["label"]: one["score"] for one in result}
        np.testing.assert_allclose(row, [by_name[f"LABEL_{i}"] for i in range(3)], rtol=1e-4)


def test_entities_and_proposals_become_one_json_array_a_text(tagger, filler):
    (entities,) = tagger.tensors_from(tagger(TEXTS))
    assert [len(json.loads(one)) for one in entities.values] == [len(row) for row in tagger(TEXTS)]
    (proposals,) = filler.tensors_from(filler(["the [MASK]"], {"top_k": 2}))
    assert [one["token"] for one in json.loads(proposals.values[0])] == [
        one["token"] for one in filler(["the [MASK]"], {"top_k": 2})[0]
    ]


def test_tensors_of_another_name_kind_or_shape_are_refused(classifier):
    texts = texts_tensor("text", ["a"])
    with pytest.raises(BadRequest, match="takes one input, 'text'"):
        classifier.inputs_from({"words": texts})
    with pytest.raises(BadRequest, match="takes one input, 'text'"):
        classifier.inputs_from({"text": texts, "more": texts})
    with pytest.raises(BadRequest, match="must be BYTES"):
        classifier.inputs_from({"text": Tensor("text", "FP32", np.zeros(1, np.float32))})
    with pytest.raises(BadRequest, match="of shape"):
        classifier.inputs_from({"text": Tensor("text", "BYTES", np.full((1, 2), b"", object))})
    with pytest.raises(BadRequest, match="UTF-8"):
        classifier.inputs_from({"text": Tensor("text", "BYTES", np.full(1, b"\xff", object))})


def test_a_mistake_of_one_input_in_the_model_is_not_its_neighbours(classifier, monkeypatch):
    forward = classifier.forward

    def failing(items, options):
        if any(len(item["input_ids"]) == 3 for item in items):
            raise ValueError("no texts of one word")
        return forward(items, options)

    monkeypatch.setattr(classifier, "forward", failing)
    options = classifier.options({})
    results = classifier.run([classifier.read(text, options) for text in TEXTS], options)
    assert [isinstance(result, ValueError) for result in results] == [False, False, False, True]


def test_a_checkpoint_without_a_tokenizer_is_refused(classifier, tmp_path):
    with pytest.raises(UnusableModel, match="no tokenizer"):
        open_task(
            classifier._module,
            tmp_path,
            classifier.manifest,
            ModelSettings(task=Task.TEXT_CLASSIFICATION),
        )


def test_the_module_is_not_trained_by_being_asked(classifier):
    assert not classifier._module.training
    classifier(TEXTS)
    assert all(parameter.grad is None for parameter in classifier._module.parameters())
    assert not torch.is_inference_mode_enabled()


def test_the_handler_imports_no_task_before_it_knows_its_own():
    # A worker that embeds texts shall not pay for torch, pillow and generation.
    names = ["torch", "PIL", "stoker.models.tasks.sounds", "stoker.models.tasks.text_generation"]
    code = f"import sys, stoker.models.serve; print([n for n in {names} if n in sys.modules])"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_more_runs_at_once_on_a_card_where_a_call_costs_as_much_for_few(tmp_path, monkeypatch):
    head = "BertForSequenceClassification"
    monkeypatch.setattr("stoker.models.tasks.opening.device_of", lambda _: torch.device("cuda"))
    monkeypatch.setattr("stoker.models.torch_session.device_of", lambda _: torch.device("cuda"))
    on_card = opened(tmp_path, Task.TEXT_CLASSIFICATION, tiny_tasks.bert, head)
    groups = list(on_card._groups([on_card.read("cat " * 30, on_card.options({}))] * 100, None))
    assert [len(group) for group in groups] == [100]
    assert TorchSession(on_card._module, "mean").block_tokens == 8192


def test_scores_that_are_no_numbers_are_an_error_of_the_input_that_has_them(
    classifier, monkeypatch
):
    forward = classifier._module.forward

    def overflown(**inputs):
        output = forward(**inputs)
        output.logits[(inputs["input_ids"] == unknown).any(1)] = float("nan")
        return output

    options = classifier.options({})
    items = [classifier.read(text, options) for text in ("good", "bad")]
    unknown = items[1]["input_ids"][1]
    monkeypatch.setattr(classifier._module, "forward", overflown)
    good, bad = classifier.run(items, options)
    assert sum(one["score"] for one in good) == pytest.approx(1)
    assert isinstance(bad, HandlerFailed)
