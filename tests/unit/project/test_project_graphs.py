"""The graphs, run by mlrun's own mock server, the model replaced by one that counts words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

mlrun = pytest.importorskip("mlrun")
pytestmark = [
    pytest.mark.mlrun,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow"),
]
LABELS = {"business": "shares", "politics": "minister", "sports": "goal"}


@pytest.fixture
def serve(
    load: Callable[[str], ModuleType], encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Any]]:
    servers: list[Any] = []

    def start(path: str) -> Any:
        module = load(path)
        server = module.create("news").to_mock_server(namespace=vars(module))
        servers.append(server)
        return server

    yield start
    for server in servers:
        if hasattr(server.graph, "wait_for_completion"):
            server.wait_for_completion()


@pytest.fixture
def router(
    serve: Callable[[str], Any], load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    package = tmp_path / "labelled"
    for label, word in LABELS.items():
        (package / "data" / label).mkdir(parents=True)
        for number in range(10):
            (package / "data" / label / f"{number}.txt").write_text(f"{word} number {number}")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("EXAMPLES", "package://labelled/data")
    monkeypatch.setenv("STOKER_HOME", str(tmp_path / "home"))
    return serve("graphs/champion_challenger.py")


@pytest.mark.parametrize("model", ["champion", "challenger"])
def test_each_model_answers_by_its_name(router: Any, model: str) -> None:
    for label, word in LABELS.items():
        reply = router.test(f"/v2/models/{model}/infer", body={"inputs": [f"the {word}"]})
        assert reply["model_name"] == model
        assert reply["outputs"][0]["label"] == label


def test_the_challenger_gets_its_share_and_always_the_same(router: Any) -> None:
    def models() -> list[str]:
        asked = ({"inputs": [f"shares {number}"]} for number in range(200))
        return [router.test("/", body=body)["model_name"] for body in asked]

    first = models()
    assert 20 <= first.count("challenger") <= 60
    assert models() == first


def test_the_body_may_name_the_model_too(router: Any) -> None:
    reply = router.test("/", body={"inputs": ["a goal"], "model": "challenger"})
    assert reply["model_name"] == "challenger"


def test_inputs_that_are_no_texts_are_refused(router: Any) -> None:
    with pytest.raises(RuntimeError, match="inputs must be a list of texts"):
        router.test("/v2/models/champion/infer", body={"inputs": [3]})
    assert router.test("/v2/models/", method="GET") == {"models": ["champion", "challenger"]}


def test_examples_are_embedded_once_and_read_from_then_on(
    router: Any, serve: Callable[[str], Any], encoder: Any
) -> None:
    calls = encoder.calls
    assert calls == 1
    again = serve("graphs/champion_challenger.py")
    assert encoder.calls == calls
    assert again.test("/", body={"inputs": ["a goal"]})["outputs"][0]["label"] == "sports"


def test_each_sentence_is_a_chunk(serve: Callable[[str], Any]) -> None:
    text = "Shares fell again. The goal came late!  Was the film good? It was."
    chunks = list(
        serve("graphs/streaming_sentences.py").test("/", body={"text": text, "query": "shares"})
    )
    lines = [json.loads(chunk) for chunk in chunks]
    assert [line["sentence"] for line in lines] == [
        "Shares fell again.",
        "The goal came late!",
        "Was the film good?",
        "It was.",
    ]
    assert max(lines, key=lambda line: line["nearness"]) == lines[0]
    assert all(chunk.endswith("\n") for chunk in chunks)


def test_the_first_sentence_is_told_before_the_last_is_looked_at(
    serve: Callable[[str], Any], encoder: Any
) -> None:
    server = serve("graphs/streaming_sentences.py")
    heard, encode = threading.Event(), encoder.encode

    def patient(texts: list[str]) -> Any:
        assert texts != ["Three."] or heard.wait(10)
        return encode(texts)

    encoder.encode = patient
    chunks = server.test("/", body={"text": "One. Two. Three.", "query": "shares"})
    assert json.loads(next(chunks))["sentence"] == "One."
    heard.set()
    assert [json.loads(chunk)["sentence"] for chunk in chunks] == ["Two.", "Three."]


@pytest.mark.parametrize("body", [{"text": "A."}, {"text": 3, "query": "a"}, {"text": " "}])
def test_what_is_no_text_and_query_is_refused(serve: Callable[[str], Any], body: Any) -> None:
    with pytest.raises(RuntimeError, match="the body must be JSON"):
        list(serve("graphs/streaming_sentences.py").test("/", body=body))


def test_the_queue_s_streams_lie_where_the_environment_says(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = load("graphs/queue_classification.py").stream
    monkeypatch.delenv("V3IO_API", raising=False)
    monkeypatch.setattr(mlrun, "mlconf", SimpleNamespace(dbpath="http://127.0.0.1:8070"))
    assert stream("news", "inbox")["path"] == "v3io://127.0.0.1:8070/projects/news/queues/inbox"
    monkeypatch.setenv("V3IO_API", "https://webapi.example")
    assert stream("news", "inbox") == {"path": "v3io:///projects/news/queues/inbox", "shards": 1}
    monkeypatch.setenv("QUEUES", "kafka://broker:9092")
    assert stream("news", "inbox") == {"path": "kafka://broker:9092?topic=news-inbox"}


def test_a_queue_s_result_carries_the_id_of_its_sender(
    load: Callable[[str], ModuleType],
) -> None:
    result = load("graphs/queue_classification.py").result
    prediction = {"label": "sports", "scores": {"sports": 0.75, "tech": 0.25}}
    event = type("Event", (), {"id": "e1", "body": {"predictions": [prediction]}})()
    assert result(event).body == {"id": "e1", "label": "sports", "score": 0.75}
