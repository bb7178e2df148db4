"""The example project's handlers, run by hand with Nuclio's own context."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import nuclio_sdk
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3] / "functions"


class Quiet:
    def __getattr__(self, _name):
        return lambda *_args, **_kwargs: None


class Embedder:
    """Stands for the embedder function: one dimension a label word."""

    def __init__(self, model="m1"):
        self.model = model
        self.calls = 0
        self.statuses = []

    def call_function(self, name, event):
        assert name == "news-text-embedder"
        self.calls += 1
        if self.statuses:
            return SimpleNamespace(status_code=self.statuses.pop(0), body=b"not yet")
        texts = json.loads(event.body)["texts"]
        vectors = [vector(text) for text in texts]
        body = {"texts": texts, "embeddings": vectors, "model": self.model}
        return SimpleNamespace(status_code=200, body=json.dumps(body).encode())


def vector(text):
    return [float("ball" in text), float("vote" in text), 0.1]


@pytest.fixture
def load(monkeypatch):
    def load_handler(function, module):
        folder = ROOT / function
        monkeypatch.syspath_prepend(folder)
        spec = importlib.util.spec_from_file_location(module, folder / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded

    return load_handler


def context(platform=None):
    return nuclio_sdk.Context(logger=Quiet(), platform=platform)


def event(body):
    return nuclio_sdk.Event(body=body, content_type="application/json")


@pytest.fixture
def preprocess(load):
    module = load("text-preprocess", "text_preprocess")
    here = context()
    module.init_context(here)
    return lambda body: module.handler(here, event(body))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<p>Shares&nbsp;fell</p><script>track()</script> today", "Shares fell today"),
        ("ﬁve  \n\t ½", "five 1⁄2"),  # ligatures are what NFKC is for
        ("a\x00b\u200bc", "a b c"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("word " * 1000, ("word " * 400).strip()),
    ],
)
def test_a_text_becomes_one_plain_line(preprocess, text, clean):
    assert preprocess({"text": text}) == {"texts": [clean]}


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        {},
        [],
        {"text": 3},
        {"text": "a", "texts": ["b"]},
        {"texts": []},
        {"texts": "abc"},
        {"texts": ["a"] * 65},
        {"texts": ["a", None]},
        {"text": "<br> \n"},
    ],
)
def test_what_cannot_be_used_is_a_400_that_says_why(preprocess, body):
    response = preprocess(body)
    assert response.status_code == 400
    assert json.loads(response.body)["error"] if isinstance(response.body, str) else response.body


@pytest.fixture
def embedder(load):
    class Model:
        manifest = SimpleNamespace(key="m1")

        def encode(self, texts):
            return np.array([[len(text), 1.0] for text in texts], dtype=np.float32).reshape(-1, 2)

    module = load("text-embedder", "text_embedder")
    here = context()
    here.user_data.model = Model()
    return lambda value: module.handler(here, value)


def body_of(response):
    return json.loads(response.body) if isinstance(response.body, (str, bytes)) else response.body


def test_each_event_of_a_batch_gets_its_own_texts_vectors(embedder):
    first, wrong, third = embedder(
        [event({"text": "a"}), event({"words": 1}), event({"texts": ["bb", "ccc"]})]
    )
    assert body_of(first)["embeddings"] == [[1.0, 1.0]]
    assert wrong.status_code == 400
    assert body_of(third)["embeddings"] == [[2.0, 1.0], [3.0, 1.0]]
    assert body_of(third)["texts"] == ["bb", "ccc"]


def test_the_embedder_works_without_batching_too(embedder):
    assert body_of(embedder(event({"text": "abc"})))["embeddings"] == [[3.0, 1.0]]


@pytest.fixture
def examples(tmp_path, monkeypatch):
    for label, word in (("politics", "vote"), ("sports", "ball")):
        (tmp_path / "texts" / label).mkdir(parents=True)
        for number in range(12):
            (tmp_path / "texts" / label / f"{number:02}.txt").write_text(f"the {word} {number}")
    monkeypatch.setenv("EXAMPLES", str(tmp_path / "texts"))
    monkeypatch.setenv("EXAMPLES_PER_LABEL", "10")
    monkeypatch.setenv("NEIGHBOURS", "3")
    monkeypatch.setenv("EMBEDDER", "news-text-embedder")
    monkeypatch.setenv("STOKER_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def classify(load, examples):
    def start(platform):
        module = load("text-classify", "text_classify")
        here = context(platform)
        module.init_context(here)

        def call(text, model):
            body = {"texts": [text], "embeddings": [vector(text)], "model": model}
            return module.handler(here, event(body))

        call.module, call.context = module, here
        return call

    return start


def test_a_vector_gets_the_label_of_its_nearest_examples(classify):
    prediction = classify(Embedder())("a ball game", "m1")["predictions"][0]
    assert prediction["label"] == "sports"
    assert prediction["scores"] == {"politics": 0.0, "sports": 1.0}
    assert all(name.startswith("sports/") for name in prediction["nearest"])


def test_waking_reads_the_index_and_embeds_nothing(classify):
    classify(Embedder())
    second = Embedder()
    assert classify(second)("the vote", "m1")["predictions"][0]["label"] == "politics"
    assert second.calls == 0


def test_vectors_of_another_model_are_never_compared_with_this_index(classify):
    call = classify(Embedder("m1"))
    other = Embedder("m2")
    call.context.platform = other
    assert call("the vote", "m2")["predictions"][0]["label"] == "politics"
    assert other.calls > 0
    before = other.calls
    call("the vote", "m2")
    assert other.calls == before


def test_a_model_that_the_embedder_does_not_have_is_refused_and_asked_for_once(classify):
    platform = Embedder("m1")
    call = classify(platform)
    assert call("the vote", "nobody").status_code == 400
    before = platform.calls
    assert call("the vote", "../../nobody").status_code == 400
    assert platform.calls == before
    assert call("the vote", "m1")["predictions"][0]["label"] == "politics"


def test_a_damaged_index_is_built_anew(classify, examples):
    classify(Embedder())
    (index,) = (examples / "home" / "indexes").glob("*.npy")
    index.write_bytes(b"")
    platform = Embedder()
    assert classify(platform)("the vote", "m1")["predictions"][0]["label"] == "politics"
    assert platform.calls > 0


def test_an_embedder_that_is_still_being_deployed_is_asked_again(classify, load, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _s: None)
    platform = Embedder()
    platform.statuses = [404, 503]
    assert classify(platform)("the vote", "m1")["predictions"][0]["label"] == "politics"


def test_an_embedder_that_fails_stops_the_start_with_its_answer(classify):
    platform = Embedder()
    platform.statuses = [500]
    with pytest.raises(RuntimeError, match="news-text-embedder answered 500"):
        classify(platform)


@pytest.mark.parametrize(
    "body",
    [
        {"texts": ["a"]},
        {"texts": ["a"], "embeddings": [[1, 2], [3]], "model": "m1"},
        {"texts": ["a"], "embeddings": [[1, 2]], "model": "m1"},
        {"texts": ["a", "b"], "embeddings": [[1, 2, 3]], "model": "m1"},
    ],
)
def test_vectors_that_do_not_fit_are_a_400(classify, body):
    call = classify(Embedder())
    assert call.module.handler(call.context, event(body)).status_code == 400
