"""The handler of a function without code, called as Nuclio calls it."""

import asyncio
import base64
import inspect
import io
import json
import struct

import nuclio_sdk
import numpy as np
import pytest
import torch
from PIL import Image

import tiny_tasks
from stoker.models import serve
from stoker.models.encoder import Model
from stoker.models.serving.asked import Served
from stoker.models.tasks import as_task, open_task
from stoker.nouns.settings import ModelSettings, Task

pytestmark = pytest.mark.models
LENGTH = "Inference-Header-Content-Length"


class Log:
    def __init__(self):
        self.errors = []

    def error(self, message, *_more):
        self.errors.append(message)

    def __getattr__(self, _name):
        return lambda *_args, **_more: None


class Function:
    """A function that is up."""

    def __init__(self, model):
        self.model = model
        self.log = Log()
        self.context = nuclio_sdk.Context(logger=self.log)
        self.context.user_data.served = Served(
            model, ("sentiment", "news-sentiment"), 1_700_000_000
        )

    def __call__(self, body=b"", path="/", method="POST", **more):
        async def run():
            return await seen(serve.handler(self.context, event(body, path, method, **more)))

        return asyncio.run(run())

    def batch(self, *events):
        async def run():
            return await asyncio.gather(*map(seen, serve.handler(self.context, list(events))))

        return asyncio.run(run())

    def infer(self, document, tail=b"", **headers):
        head = json.dumps(document).encode()
        if tail:
            headers[LENGTH] = str(len(head))
        return self(head + tail, "/v2/models/sentiment/infer", headers=headers)


async def seen(answer):
    """As a worker sees an answer through: it may be a coroutine, and its body a stream."""
    response = await answer if inspect.isawaitable(answer) else answer
    if not inspect.isasyncgen(response.body):
        return Answer(response, response.body)
    return Answer(response, chunks=[chunk async for chunk in response.body])


class Answer:
    def __init__(self, response, body=b"", chunks=()):
        self.status = response.status_code
        self.headers = response.headers
        self.type = response.content_type
        self.chunks = chunks
        self.body = b"".join(chunks) or body

    @property
    def json(self):
        return json.loads(self.body)


def event(body=b"", path="/", method="POST", *, content_type="application/json", **more):
    """As `stoker.worker.event` makes it: JSON is parsed already."""
    if isinstance(body, (dict, list)) or (content_type == "application/json" and _is_json(body)):
        body = body if isinstance(body, (dict, list)) else json.loads(body)
    made = nuclio_sdk.Event(body=body, content_type=content_type, path=path, method=method, **more)
    made._request = None
    return made


def _is_json(body):
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def opened(folder, task, build, *args, **more):
    module = build(folder, *args, **more)
    return open_task(module, folder, tiny_tasks.manifest(task, "k1"), ModelSettings(task=task))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    head = "BertForSequenceClassification"
    return opened(folder, Task.TEXT_CLASSIFICATION, tiny_tasks.bert, head, num_labels=3)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("writer"), Task.TEXT_GENERATION, tiny_tasks.llama)


@pytest.fixture
def function(classifier):
    return Function(classifier)


@pytest.fixture
def writing(writer):
    return Function(writer)


@pytest.fixture
def embedding(tmp_path):
    class Letters:
        def ids(self, texts):
            return [[ord(letter) for letter in text] for text in texts]

    class FirstLetter:
        block_tokens = 128

        def run(self, ids, mask):
            return np.stack([ids[:, 0], mask.sum(1)], axis=1).astype(np.float32)

    manifest = tiny_tasks.manifest(Task.FEATURE_EXTRACTION, "k2")
    return Function(as_task(Model(FirstLetter(), Letters(), manifest, tmp_path)))


# -- plain JSON


def test_one_input_gets_one_result_and_a_list_a_list(function, classifier):
    one = function({"inputs": "the cat", "parameters": {"top_k": 1}})
    assert (one.status, one.type) == (200, "application/json")
    assert one.json == {"outputs": classifier(["the cat"], {"top_k": 1})[0], "model": "k1"}
    several = function({"inputs": ["the cat"], "parameters": {"top_k": 1}})
    assert several.json["outputs"] == [one.json["outputs"]]
    assert function({"inputs": []}).json["outputs"] == []


def test_a_body_is_json_whatever_its_content_type_says(function):
    sent = b'{"inputs": "the cat"}'
    answer = function(sent, content_type="application/x-www-form-urlencoded")
    assert answer.json == function(sent).json


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", 'the body is empty; it must be {"inputs": "…" or ["…", "…"], "parameters": {…}}'),
        (b"the cat", "the body is not JSON"),
        ([1], "the body must be a JSON object"),
        ({}, "the body has no inputs"),
        ({"inputs": "a", "parameter": {}}, "the body has 'parameter'; it must be"),
        ({"inputs": "a", "parameters": [1]}, "parameters must be an object, was a list"),
        ({"inputs": "a", "parameters": {"topk": 1}}, "did you mean top_k?"),
        ({"inputs": ["a", 3]}, "inputs[1]: an input must be a text, was a int"),
        ({"inputs": None}, "an input must be a text, was a NoneType"),
        ({"inputs": "a", "stream": True}, "needs a model that generates text"),
        ({"inputs": "a", "stream": 1}, "stream must be true or false, was 1"),
    ],
)
def test_a_wrong_body_says_what_is_right(function, body, message):
    answer = function(body)
    assert answer.status == 400
    assert answer.json["error"]["code"] == "bad_request"
    assert message in answer.json["error"]["message"]
    assert function.log.errors == []


def test_a_question_without_a_body_is_told_about_the_model(function):
    told = function(method="GET").json
    assert (told["name"], told["task"], told["model"]) == ("sentiment", "text-classification", "k1")
    assert set(told["takes"]) == {"inputs", "parameters"}
    assert function(method="DELETE").status == 405


def test_events_of_a_batch_run_together_and_each_mistake_stays_its_own(function, monkeypatch):
    ran = []
    run = function.model.run_in_steps
    monkeypatch.setattr(
        function.model,
        "run_in_steps",
        lambda items, options: ran.append(len(items)) or run(items, options),
    )
    answers = function.batch(
        event({"inputs": "the cat"}),
        event({"inputs": 3}),
        event({"inputs": ["a dog", "bad"]}),
        event(b"nonsense"),
        event({"inputs": "good", "parameters": {"top_k": 1}}),
        event(json.dumps(infer_document(["not"])).encode(), "/v2/models/sentiment/infer"),
    )
    assert [answer.status for answer in answers] == [200, 400, 200, 400, 200, 200]
    assert sorted(ran) == [1, 4]
    alone = function({"inputs": "the cat"}).json["outputs"]
    scores = [row["score"] for row in answers[0].json["outputs"]]
    assert scores == pytest.approx([row["score"] for row in alone], abs=1e-5)
    assert len(answers[2].json["outputs"]) == 2
    assert len(answers[4].json["outputs"]) == 1


def test_a_failure_of_the_model_is_a_500_of_that_event_and_is_logged(function, monkeypatch):
    forward = function.model.forward

    def failing(items, options):
        if any(len(item["input_ids"]) == 3 for item in items):
            raise ValueError("no texts of one word")
        return forward(items, options)

    monkeypatch.setattr(function.model, "forward", failing)
    answers = function.batch(event({"inputs": "the cat"}), event({"inputs": "cat"}))
    assert [answer.status for answer in answers] == [200, 500]
    error = answers[1].json["error"]
    assert error["code"] == "handler_failed"
    assert "ValueError: no texts of one word" in error["message"]
    assert any("Traceback" in line for line in function.log.errors)


def test_out_of_memory_is_a_507_with_the_bytes_of_the_events_that_do_not_fit(function, monkeypatch):
    forward = function.model.forward

    def little(items, options):
        if sum(len(item["input_ids"]) for item in items) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 …")
        return forward(items, options)

    monkeypatch.setattr(function.model, "forward", little)
    answers = function.batch(
        event({"inputs": "the cat"}), event({"inputs": "cat " * 20}), event({"inputs": "a dog"})
    )
    assert [answer.status for answer in answers] == [200, 507, 200]
    error = answers[1].json["error"]
    assert error["code"] == "insufficient_storage"
    assert error["bytes_wanted"] == 2 * 1024**3
    assert error["bytes_free"] > 0


def test_a_picture_may_be_the_whole_body(tmp_path):
    seeing = Function(opened(tmp_path, Task.IMAGE_CLASSIFICATION, tiny_tasks.vit))
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    raw = seeing(file.getvalue(), content_type="image/png", fields={"top_k": "2"})
    assert raw.status == 200
    inputs = base64.b64encode(file.getvalue()).decode()
    assert raw.json == seeing({"inputs": inputs, "parameters": {"top_k": 2}}).json
    assert len(raw.json["outputs"]) == 2
    wrong = seeing(b"RIFF", content_type="audio/wav")
    assert wrong.status == 400
    assert "this model does image-classification" in wrong.json["error"]["message"]
    assert seeing(b"", content_type="image/png").status == 400


def test_vectors_are_lists_of_numbers(embedding):
    assert embedding({"inputs": ["abc", "b"]}).json["outputs"] == [[97.0, 3.0], [98.0, 1.0]]


# -- streams


def lines(answer):
    return [json.loads(line[6:]) for line in answer.body.split(b"\n\n") if line[6:]]


def test_a_text_is_streamed_as_it_is_written(writing):
    asked = {"inputs": "hello", "parameters": {"max_new_tokens": 9}}
    whole = writing(asked).json["outputs"]
    answer = writing(asked | {"stream": True})
    assert (answer.status, answer.type) == (200, "text/event-stream")
    told = lines(answer)
    assert len(told) > 2
    assert "".join(one["text"] for one in told) == whole["generated_text"]
    assert told[-1]["generated_text"] == whole["generated_text"]
    assert told[-1]["finish_reason"] == "length"


STREAM = {"inputs": "hello", "parameters": {"max_new_tokens": 9}, "stream": True}


def test_a_batch_streams_beside_whole_answers(writing):
    """It answered 400: who wanted streams had to do without batches."""
    short = {"inputs": "hi", "parameters": {"max_new_tokens": 4}}
    chat = CHAT | {"max_tokens": 6, "stream": True}
    expected = [writing(STREAM), writing(short), writing(chat, "/v1/chat/completions")]
    together = writing.batch(event(STREAM), event(short), event(chat, "/v1/chat/completions"))
    assert [one.status for one in together] == [200] * 3
    assert lines(together[0]) == lines(expected[0])
    assert together[1].json == expected[1].json
    told = [json.loads(line[6:]) for line in together[2].body.split(b"\n\n")[:-2]]
    assert "".join(one["choices"][0]["delta"]["content"] for one in told) == "".join(
        json.loads(line[6:])["choices"][0]["delta"]["content"]
        for line in expected[2].body.split(b"\n\n")[:-2]
    )


def rows_of(function, monkeypatch):
    """The texts beside each other in each step."""
    rows, step = [], function.model._writer._step
    monkeypatch.setattr(
        function.model._writer,
        "_step",
        lambda *args: rows.append(len(args[0].texts)) or step(*args),
    )
    return rows


def test_streams_of_a_batch_share_its_steps_and_come_as_they_are_written(writing, monkeypatch):
    rows = rows_of(writing, monkeypatch)
    many = [STREAM | {"inputs": text} for text in ("hello", "hi", "hi there")]
    together = writing.batch(*map(event, many))
    assert rows == [3] * 9
    assert all(len(one.chunks) > 3 for one in together)


def test_a_short_text_is_answered_before_the_long_one_beside_it(writing):
    async def run():
        long = event({"inputs": "hello", "parameters": {"max_new_tokens": 60}})
        short = event({"inputs": "hi", "parameters": {"max_new_tokens": 4}})
        tasks = [
            asyncio.ensure_future(one) for one in serve.handler(writing.context, [long, short])
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert done == {tasks[1]}
        return await tasks[0]

    assert json.loads(asyncio.run(run()).body)["outputs"]["generated_tokens"] == 60


@pytest.mark.parametrize("stream", [False, True])
def test_whose_client_leaves_a_batch_is_written_no_further_and_the_others_are(
    writing, monkeypatch, stream
):
    rows = rows_of(writing, monkeypatch)
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 40}, "stream": stream}
    other = {"inputs": "hi", "parameters": {"max_new_tokens": 40}}

    async def run():
        leaving, staying = [
            asyncio.ensure_future(seen(one))
            for one in serve.handler(writing.context, [event(body), event(other)])
        ]
        while len(rows) < 3:
            await asyncio.sleep(0)
        leaving.cancel()
        before = len(rows)
        answer = await staying
        assert leaving.cancelled()
        return before, answer

    before, answer = asyncio.run(run())
    assert rows[:before] == [2] * before
    assert rows[before + 1 :] == [1] * (39 - before)
    assert answer.json["outputs"]["generated_tokens"] == 40


def test_when_all_clients_of_a_batch_have_left_not_one_more_token_is_computed(writing, monkeypatch):
    """A batch was computed to its end for nobody, minutes for long texts."""
    rows = rows_of(writing, monkeypatch)
    wish = {"inputs": "hello", "parameters": {"max_new_tokens": 60}}
    bodies = [wish, wish | {"stream": True}]

    async def run():
        tasks = [
            asyncio.ensure_future(seen(one))
            for one in serve.handler(writing.context, [event(body) for body in bodies])
        ]
        while len(rows) < 3:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        before = len(rows)
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(10):
            await asyncio.sleep(0)
        assert all(task.cancelled() for task in tasks)
        return before

    before = asyncio.run(run())
    assert len(rows) == before <= 4
    assert writing(STREAM).status == 200


def test_what_fails_before_the_first_piece_has_a_status(writing, monkeypatch):
    assert writing({"inputs": "x" * 200, "stream": True}).status == 400
    scored = writing({"inputs": "hello", "parameters": {"score": True}, "stream": True})
    assert "leave stream out" in scored.json["error"]["message"]

    def failing(*_):
        raise MemoryError

    monkeypatch.setattr(writing.model._writer, "_step", failing)
    assert writing({"inputs": "hello", "stream": True}).status == 507


def test_what_fails_later_is_told_in_the_stream(writing, monkeypatch):
    step = writing.model._writer._step

    def failing(rows, *args):
        if len(rows.texts[0].tokens) == 3:
            raise RuntimeError("the card fell off")
        return step(rows, *args)

    monkeypatch.setattr(writing.model._writer, "_step", failing)
    answer = writing(STREAM)
    assert answer.status == 200
    *_, told, _ = answer.body.split(b"\n\n")
    assert answer.body.startswith(b'data: {"text":')
    assert told.startswith(b'event: error\ndata: {"error":')
    assert b"the card fell off" in told


def test_on_real_nuclio_every_answer_is_whole(writing):
    """Its wrapper awaits nothing of a handler that is not async: a long text was a 500 there."""

    def theirs(body):
        made = event(body)
        del made._request
        return made

    whole = {"inputs": "hello", "parameters": {"max_new_tokens": 9}}
    expected = writing(whole).json
    assert json.loads(serve.handler(writing.context, theirs(whole)).body) == expected
    for answer in (
        serve.handler(writing.context, theirs(STREAM)),
        serve.handler(writing.context, [theirs(whole), theirs(STREAM)])[1],
    ):
        assert answer.content_type == "text/event-stream"
        (told,) = lines(answer)
        assert told["generated_text"] == expected["outputs"]["generated_text"]


def test_leaving_a_stream_ends_the_writing(writing, monkeypatch):
    rows = rows_of(writing, monkeypatch)

    async def run():
        response = serve.handler(writing.context, event(STREAM))
        response = await response if inspect.isawaitable(response) else response
        await anext(response.body)
        await response.body.aclose()

    asyncio.run(run())
    assert len(rows) <= 3


# -- Open Inference Protocol


def infer_document(texts, **more):
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {"inputs": [tensor]} | more


def test_the_protocol_s_questions_are_answered(function):
    def get(path):
        return function(path=path, method="GET")

    assert get("/v2").json["extensions"] == ["binary_tensor_data"]
    assert get("/v2/health/live").json == {"live": True}
    assert get("/v2/health/ready").json == {"ready": True}
    assert get("/v2/models/sentiment/ready").json == {"name": "sentiment", "ready": True}
    metadata = get("/v2/models/news-sentiment/versions/1").json
    assert metadata == {
        "name": "news-sentiment",
        "versions": ["1"],
        "platform": "torch",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }


def test_texts_are_classified_as_tensors(function, classifier):
    answer = function.infer(infer_document(["the cat", "bad"], id="7", parameters={"top_k": 1}))
    told = answer.json
    assert (told["model_name"], told["model_version"], told["id"]) == ("sentiment", "1", "7")
    label, scores = told["outputs"]
    expected = classifier(["the cat", "bad"])
    assert label["data"] == [row[0]["label"] for row in expected]
    assert scores["shape"] == [2, 3]
    assert max(scores["data"][:3]) == pytest.approx(expected[0][0]["score"], abs=1e-5)


def test_binary_tensors_go_in_and_come_out(function, classifier):
    text = b"the cat"
    raw = struct.pack("<I", len(text)) + text
    document = {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": "scores", "parameters": {"binary_data": True}}],
    }  # fmt: skip
    answer = function.infer(document, raw)
    size = int(answer.headers[LENGTH])
    head = json.loads(answer.body[:size])
    assert answer.type == "application/octet-stream"
    assert [one["name"] for one in head["outputs"]] == ["scores"]
    scores = np.frombuffer(answer.body[size:], "<f4")
    assert scores.max() == pytest.approx(classifier(["the cat"])[0][0]["score"], abs=1e-5)


def test_vectors_are_one_tensor(embedding):
    told = embedding.infer(infer_document(["abc", "b"])).json["outputs"]
    assert told == [
        {"name": "embedding", "datatype": "FP32", "shape": [2, 2], "data": [97.0, 3.0, 98.0, 1.0]}
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (infer_document([]), "the input tensors are empty"),
        (infer_document(["a"], outputs=[{"name": "logits"}]), "no output 'logits'"),
        (infer_document(["a"], parameters={"topk": 1}), "did you mean top_k?"),
        (infer_document(["a", "cat " * 99]), "inputs[1]: the input has"),
        ({"inputs": []}, 'needs "inputs"'),
    ],
)
def test_a_wrong_tensor_is_told_in_the_protocol_s_form(function, document, message):
    answer = function.infer(document)
    assert answer.status == 400
    assert message in answer.json["error"]


def test_other_models_versions_and_methods_are_refused(function):
    assert function(path="/v2/models/other", method="GET").status == 404
    assert "there is 'sentiment'" in function(path="/v2/models/other", method="GET").json["error"]
    assert function(path="/v2/models/sentiment/versions/3", method="GET").status == 404
    assert function(path="/v2/models/sentiment/infer", method="GET").status == 405
    assert function(path="/v2/else", method="GET").status == 404


# -- OpenAI


def test_embeddings_come_in_openai_s_form(embedding):
    told = embedding({"model": "sentiment", "input": ["abc", "b"]}, "/v1/embeddings").json
    assert told["object"] == "list"
    assert [one["embedding"] for one in told["data"]] == [[97.0, 3.0], [98.0, 1.0]]
    assert [one["index"] for one in told["data"]] == [0, 1]
    assert told["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    asked = {"model": "sentiment", "input": "abc", "encoding_format": "base64"}
    encoded = embedding(asked, "/v1/embeddings").json["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(encoded), "<f4").tolist() == [97.0, 3.0]


CHAT = {"model": "sentiment", "messages": [{"role": "user", "content": "hey"}], "temperature": 0}


def test_a_chat_is_completed(writing, writer):
    told = writing(CHAT | {"max_tokens": 6, "n": 1, "user": "u"}, "/v1/chat/completions").json
    expected = writer([CHAT["messages"]], {"max_new_tokens": 6})[0]
    assert told["object"] == "chat.completion"
    (choice,) = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected["generated_text"]}
    assert choice["finish_reason"] == "length"
    prompt = expected["prompt_tokens"]
    assert told["usage"] == {
        "prompt_tokens": prompt, "completion_tokens": 6, "total_tokens": prompt + 6
    }  # fmt: skip
    parts = [{"role": "user", "content": [{"type": "text", "text": "hey"}]}]
    again = writing(CHAT | {"messages": parts, "max_completion_tokens": 6}, "/v1/chat/completions")
    assert again.json["choices"] == told["choices"]


def test_a_chat_is_streamed_in_chunks_up_to_done(writing):
    whole = writing(CHAT | {"max_tokens": 9}, "/v1/chat/completions").json
    asked = CHAT | {"max_tokens": 9, "stream": True, "stream_options": {"include_usage": True}}
    answer = writing(asked, "/v1/chat/completions")
    sent = answer.body
    assert sent.endswith(b"data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in sent.split(b"\n\n")[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks[:-1]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(choice["delta"]["content"] for choice in choices)
    assert text == whole["choices"][0]["message"]["content"]
    assert [choice["finish_reason"] for choice in choices][-2:] == [None, "length"]
    assert chunks[-1]["usage"] == whole["usage"]


def test_texts_are_completed_several_at_once(writing, writer):
    asked = {"prompt": ["hello", "hi"], "max_tokens": 5, "temperature": 0, "echo": True}
    told = writing(asked, "/v1/completions").json
    expected = writer(["hello", "hi"], {"max_new_tokens": 5, "return_full_text": True})
    assert [one["text"] for one in told["choices"]] == [one["generated_text"] for one in expected]
    assert told["object"] == "text_completion"
    assert told["usage"]["completion_tokens"] == 10


def test_the_models_are_listed(function):
    (told,) = function(path="/v1/models", method="GET").json["data"]
    assert told == {
        "id": "sentiment", "object": "model", "created": 1_700_000_000, "owned_by": "stoker"
    }  # fmt: skip
    assert function(path="/v1/models/news-sentiment", method="GET").status == 200
    assert function(path="/v1/models/other", method="GET").status == 404


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"model": "other"}, 404, "no model 'other' here; there is 'sentiment'"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user"}]}, 400, "must be a text, or a chat"),
        ({"n": 2}, 400, "n: 2 is not supported"),
        ({"logprobs": 0}, 400, "logprobs: 0 is not supported"),
        ({"n": True}, 400, "n: True is not supported"),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 500}, 400, "the model's context is 96"),
        ({"temprature": 1}, 400, "temprature"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "type text"),
    ],
)
def test_a_wrong_chat_is_told_in_openai_s_form(writing, changes, status, message):
    answer = writing(CHAT | changes, "/v1/chat/completions")
    assert answer.status == status
    error = answer.json["error"]
    assert error["type"] == "invalid_request_error"
    assert message in error["message"]


def test_a_route_of_another_task_is_not_there(function, embedding):
    assert function(CHAT, "/v1/chat/completions").status == 404
    assert (
        "this model does feature-extraction"
        in embedding(CHAT, "/v1/completions").json["error"]["message"]
    )
    assert function({}, "/v1/audio/transcriptions").status == 404
    assert function(path="/v1/embeddings", method="GET").status == 405


# -- starting


def test_a_model_is_called_by_its_own_name_and_the_function_s():
    env = {"STOKER_MODEL_NAME": "minilm", "NUCLIO_FUNCTION_NAME": "news-embed"}
    assert serve.names_of(env) == ("minilm", "news-embed")
    assert serve.names_of({"NUCLIO_FUNCTION_NAME": "embed"}) == ("embed",)
    assert serve.names_of({}) == ("model",)


def test_starting_loads_what_the_environment_declares(monkeypatch, classifier):
    loaded = []
    monkeypatch.setenv("NUCLIO_FUNCTION_NAME", "tone")
    monkeypatch.setattr(
        "stoker.models.load.load_from", lambda *args: loaded.append(args) or classifier
    )
    context = nuclio_sdk.Context(logger=Log())
    serve.init_context(context)
    assert context.user_data.served.model is classifier
    assert context.user_data.served.names[-1] == "tone"
    assert len(loaded) == 1


def test_a_text_whose_client_has_left_is_not_written_to_its_end(writer, monkeypatch):
    """A worker that wrote on for nobody was busy for minutes with what no one would read."""
    function = Function(writer)
    steps = rows_of(function, monkeypatch)
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 80}}

    async def leave():
        task = asyncio.ensure_future(serve.handler(function.context, event(body)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(leave())
    assert 1 <= len(steps) <= 3
    steps.clear()
    assert function(body).json["outputs"]["generated_tokens"] == 80
    assert len(steps) == 80


def test_an_answer_of_one_step_takes_no_turn_of_the_loop(writer):
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 1}}
    assert not inspect.isawaitable(serve.handler(Function(writer).context, event(body)))


def test_parameters_must_be_an_object(function):
    for wrong in ([], "", 0):
        answer = function({"inputs": "good", "parameters": wrong})
        assert (answer.status, "must be an object" in answer.body.decode()) == (400, True)
    assert function({"inputs": "good", "parameters": None}).status == 200


def test_a_prompt_of_token_ids_is_refused_in_words(writer):
    """LangChain sends token ids; the answer listed the types of a tuple."""
    body = {"model": "sentiment", "prompt": [1, 2], "colour": 1}
    answer = Function(writer)(body, "/v1/completions")
    assert answer.status == 400
    assert answer.json["error"]["message"] == (
        "prompt: must be a text or a list of texts; token ids are not taken; "
        "colour: is not known here; leave it out"
    )
