"""A function without code on a whole platform: by name, by path and by model, from zero."""

from __future__ import annotations

import json
import re
import shlex
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

import tiny_tasks
from live_platform import Platform, home_of_its_own, platform_of_its_own
from stoker.cli.pack import pack_function
from stoker.nouns.function import FunctionConfig
from stoker.nouns.settings import ModelSettings, Task

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.timeout(300)]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
LENGTH = "Inference-Header-Content-Length"
"""Of the JSON in a body whose tensors are binary."""


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def deploy(platform: Platform, folder: Path, config: str) -> None:
    folder.mkdir()
    (folder / "function.yaml").write_text(config)
    package = pack_function(folder / "function.yaml")
    assert platform.endpoints is not None
    posted = platform.client.put(
        f"{platform.endpoints.control_url}/api/functions/{package.name}",
        json=package.document,
        headers={"X-Nuclio-Wait-Function-Action": "true"},
        timeout=240,
    )
    assert posted.status_code == 202, posted.text


@pytest.fixture(scope="module")
def live() -> Iterator[Platform]:
    with home_of_its_own() as code, platform_of_its_own() as platform:
        platform.up()
        deploy(platform, code / "code", blocks("yaml")[0])
        yield platform


def ask(platform: Platform, path: str, body: Any = None, **headers: str) -> httpx.Response:
    assert platform.endpoints is not None
    url = f"{platform.endpoints.gateway_url}{path}"
    if body is None:
        return platform.client.get(url, headers=headers)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers.setdefault("Content-Type", "application/json")
    return platform.client.post(url, content=content, headers=headers)


def tensors(texts: list[str], **more: Any) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {"inputs": [tensor]} | more


def vectors(platform: Platform, texts: list[str]) -> np.ndarray:
    answer = ask(platform, "/embeddings", {"inputs": texts})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["outputs"], np.float32)


KINDS = (
    ("classes", "ClassParameters"),
    ("text_classification", "TextClassParameters"),
    ("token_classification", "EntityParameters"),
    ("fill_mask", "MaskParameters"),
    ("generation_parameters", "GenerationParameters"),
    ("speech_recognition", "SpeechParameters"),
)
TEXTS = ["A cat sits on the mat.", "There is a cat on a mat.", "Shares fell after the report."]


def test_texts_become_vectors_without_a_line_of_code(live: Platform) -> None:
    found = vectors(live, TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    near, far = found[0] @ found[1], found[0] @ found[2]
    assert near > 0.8 > 0.3 > far


def test_the_open_inference_protocol_reaches_it_by_its_name_and_its_model_s(live: Platform) -> None:
    expected = vectors(live, TEXTS)
    for name in ("embeddings", "minilm"):
        answer = ask(live, f"/v2/models/{name}/infer", tensors(TEXTS, id="7"))
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["model_name"], told["id"]) == (name, "7")
        (output,) = told["outputs"]
        assert (output["name"], output["shape"]) == ("embedding", [3, 384])
        found = np.array(output["data"], np.float32).reshape(3, 384)
        np.testing.assert_allclose(found, expected, atol=1e-3)
    direct = ask(live, "/embeddings/v2/models/minilm/versions/1/infer", tensors(TEXTS))
    assert direct.status_code == 200
    metadata = ask(live, "/v2/models/minilm").json()
    assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}]
    assert ask(live, "/v2/models/minilm/ready").json() == {"name": "minilm", "ready": True}


def test_binary_tensors_pass_the_gateway_both_ways(live: Platform) -> None:
    raw = b"".join(struct.pack("<I", len(text)) + text.encode() for text in TEXTS)
    document = {
        "inputs": [{"name": "text", "shape": [3], "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }  # fmt: skip
    head = json.dumps(document).encode()
    more = {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    answer = ask(live, "/v2/models/minilm/infer", head + raw, **more)
    assert answer.status_code == 200, answer.text
    size = int(answer.headers[LENGTH])
    (output,) = json.loads(answer.content[:size])["outputs"]
    found = np.frombuffer(answer.content[size:], "<f4").reshape(output["shape"])
    np.testing.assert_allclose(found, vectors(live, TEXTS), atol=1e-3)


def test_what_the_page_shows_is_what_is_answered(live: Platform) -> None:
    sent = 0
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed, _, shown = part.replace("\\\n", "").partition("\n")
            words = shlex.split(typed)
            assert words[0] == "curl"
            body = words[words.index("-d") + 1].encode() if "-d" in words else None
            path = words[-1].removeprefix("http://127.0.0.1:8080")
            told = ask(live, path, body, **{"Content-Type": "text/plain"}).text
            told = re.sub(r',"request_id":"[^"]*"', "", told)
            assert re.fullmatch(as_pattern(shown), told), told
            sent += 1
    assert sent >= 8


def as_pattern(shown: str) -> str:
    """What is shown, to the letter; a mere ``…`` in brackets or quotes stands for anything."""
    pattern = re.escape(shown.strip())
    for before, after in (("[", "]"), ('"', '"')):
        gap = re.escape(f"{before}…{after}")
        pattern = pattern.replace(
            gap, f"{re.escape(before)}[^{re.escape(after)}]*{re.escape(after)}"
        )
    return pattern


def test_the_settings_of_the_example_are_those_that_there_are() -> None:
    config = FunctionConfig.parse(yaml.safe_load(blocks("yaml")[0]))
    assert ModelSettings.read(config.env).model


def test_every_task_and_parameter_stands_on_the_page() -> None:
    text = PAGE.read_text()
    kinds = [
        getattr(import_module(f"stoker.models.tasks.{module}"), name) for module, name in KINDS
    ]
    named = {field for kind in kinds for field in kind.model_fields}
    assert [name for name in [*Task, *sorted(named)] if f"`{name}`" not in text] == []


def test_the_protocol_wakes_it_from_zero(live: Platform) -> None:
    assert live.endpoints is not None
    slept = live.client.patch(
        f"{live.endpoints.control_url}/api/functions/embeddings",
        json={"desiredState": "scaledToZero"},
        headers={"X-Nuclio-Wait-Function-Action": "true"},
    )
    assert slept.status_code == 202, slept.text
    answer = ask(live, "/v2/models/minilm/infer", tensors(TEXTS[:1]))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-stoker-cold"] == "1"


def test_a_wrong_request_gets_the_error_of_the_protocol_it_speaks(live: Platform) -> None:
    plain = ask(live, "/embeddings", {"texts": ["a"]})
    assert plain.status_code == 400
    assert plain.json()["error"]["code"] == "bad_request"
    tensor = ask(live, "/v2/models/minilm/infer", tensors(TEXTS, outputs=[{"name": "x"}]))
    assert (tensor.status_code, tensor.json()) == (
        400,
        {"error": "there is no output 'x'; there are embedding"},
    )


def test_openai_s_clients_find_it_by_its_model(live: Platform) -> None:
    answer = ask(live, "/v1/embeddings", {"model": "minilm", "input": TEXTS})
    assert answer.status_code == 200, answer.text
    found = np.array([one["embedding"] for one in answer.json()["data"]], np.float32)
    np.testing.assert_allclose(found, vectors(live, TEXTS), atol=1e-3)
    assert [one["id"] for one in ask(live, "/v1/models").json()["data"]] == ["minilm"]


WRITER = """
from pathlib import Path
import transformers
from stoker.models.manifest import Manifest
from stoker.models.serve import handler
from stoker.models.serving.asked import Served
from stoker.models.tasks import open_task
from stoker.nouns.settings import ModelSettings


def init_context(context):
    folder = Path({folder!r})
    module = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    settings = ModelSettings.read({{"STOKER_TASK": "text-generation"}})
    model = open_task(module, folder, Manifest.of(folder), settings)
    context.user_data.served = Served(model, ("writer",), 0)
"""


def test_a_text_arrives_piece_by_piece_through_the_gateway(live: Platform, tmp_path: Path) -> None:
    tiny_tasks.llama(tmp_path)
    tiny_tasks.manifest(Task.TEXT_GENERATION).write(tmp_path)
    state = live.deploy("writer", WRITER.format(folder=str(tmp_path)))
    assert state["state"] == "ready", state
    whole = ask(live, "/writer", {"inputs": "hello", "parameters": {"max_new_tokens": 20}}).json()
    assert live.endpoints is not None
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 20}, "stream": True}
    url = f"{live.endpoints.gateway_url}/writer"
    with live.client.stream("POST", url, json=body) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        told = [json.loads(line[6:]) for line in answer.iter_lines() if line]
    assert len(told) > 3
    assert "".join(one["text"] for one in told) == whole["outputs"]["generated_text"]
    chat = {"model": "writer", "messages": [{"role": "user", "content": "hey"}], "stream": True}
    answer = ask(live, "/v1/chat/completions", chat | {"max_tokens": 5})
    assert answer.text.endswith("data: [DONE]\n\n")


def test_several_texts_stream_from_one_batch_through_the_gateway(
    live: Platform, tmp_path: Path
) -> None:
    """A function with batches answered streams 400."""
    tiny_tasks.llama(tmp_path)
    tiny_tasks.manifest(Task.TEXT_GENERATION).write(tmp_path)
    batch = {"mode": "enable", "batchSize": 3, "timeout": "10s"}
    trigger = {"kind": "http", "numWorkers": 1, "attributes": {}, "batch": batch}
    code = WRITER.format(folder=str(tmp_path))
    state = live.deploy("choir", code, triggers={"http": trigger})
    assert state["state"] == "ready", state
    body = {"parameters": {"max_new_tokens": 20}, "stream": True}
    bodies = [body | {"inputs": text} for text in ("hello", "hi")]
    bodies.append({"inputs": "hello", "parameters": {"max_new_tokens": 20}})
    with ThreadPoolExecutor(3) as crowd:
        answers = list(crowd.map(lambda one: ask(live, "/choir", one), bodies))
    assert [answer.status_code for answer in answers] == [200] * 3
    first, second = (
        [json.loads(line[6:]) for line in answer.text.splitlines() if line]
        for answer in answers[:2]
    )
    assert len(first) > 3
    assert len(second) > 3
    whole = answers[2].json()["outputs"]["generated_text"]
    assert first[-1]["generated_text"] == "".join(one["text"] for one in first) == whole
