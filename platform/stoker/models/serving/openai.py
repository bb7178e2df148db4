"""OpenAI's API: embeddings, completions, chat completions, models."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from stoker.models.serving import openai_requests as requests
from stoker.models.serving.asked import (
    Asked,
    Reply,
    Served,
    event_line,
    json_body,
    json_reply,
)
from stoker.nouns.errors import BadRequest, MethodNotAllowed, NotFound, StokerError
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    from stoker.models.tasks.feature_extraction import FeatureExtraction

_DONE = b"data: [DONE]\n\n"
_TASKS = {
    "/v1/embeddings": Task.FEATURE_EXTRACTION,
    "/v1/completions": Task.TEXT_GENERATION,
    "/v1/chat/completions": Task.TEXT_GENERATION,
}


def read(served: Served, event: Any) -> Asked | Reply:
    """See `Language`."""
    path = event.path.partition("?")[0].rstrip("/")
    if path == "/v1/models" or path.startswith("/v1/models/"):
        return _models(served, event.method, path)
    if path not in _TASKS:
        raise NotFound(f"there is no {path}; there are {', '.join(_TASKS)} and /v1/models")
    if event.method != "POST":
        raise MethodNotAllowed(f"{path} takes POST, was {event.method}")
    if served.model.task is not _TASKS[path]:
        raise NotFound(f"{path} is for {_TASKS[path]}; this model does {served.model.task}")
    document = json_body(event, requests.EXAMPLES[path])
    name = document.get("model", served.names[0])
    if name not in served.names:
        raise NotFound(f"there is no model {name!r} here; there is {served.names[0]!r}")
    if path == "/v1/embeddings":
        return _embeddings(served, document, name)
    return _Written(served, document, name, chat=path.endswith("/chat/completions")).asked()


def refusal(error: StokerError) -> Reply:
    """See `Language`: OpenAI's envelope."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    document = {"message": error.message, "type": kind, "param": None, "code": error.code}
    return json_reply({"error": document}, error.status, **error.headers())


def _models(served: Served, method: str, path: str) -> Reply:
    if method not in ("GET", "HEAD"):
        raise MethodNotAllowed(f"{path} takes GET, was {method}")
    about = {
        "id": served.names[0],
        "object": "model",
        "created": served.started,
        "owned_by": "stoker",
    }
    if path == "/v1/models":
        return json_reply({"object": "list", "data": [about]})
    if path.removeprefix("/v1/models/") not in served.names:
        raise NotFound(f"there is no model {path.removeprefix('/v1/models/')!r} here")
    return json_reply(about)


def _embeddings(served: Served, document: dict[str, Any], name: str) -> Asked:
    asked, model = requests.read(requests.EmbeddingRequest, document), served.model
    texts = [asked.input] if isinstance(asked.input, str) else list(asked.input)
    if not texts:
        raise BadRequest("input must be a text or a list of texts, was an empty list")
    options = model.options({"adapter": asked.adapter})
    encode = requests.as_base64 if asked.encoding_format == "base64" else (lambda vector: vector)

    def reply(results: list[Any]) -> Reply:
        data = [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(results)
        ]
        used = sum(cast("FeatureExtraction", model).token_counts(texts))
        usage = {"prompt_tokens": used, "total_tokens": used}
        return json_reply({"object": "list", "data": data, "model": name, "usage": usage})

    return Asked(texts, options, reply)


class _Written:
    """A completion, of a text or of a chat."""

    def __init__(self, served: Served, document: dict[str, Any], name: str, *, chat: bool) -> None:
        self._chat = chat
        self._model = served.model
        self._name = name
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._created = int(time.time())
        kind = requests.ChatRequest if chat else requests.CompletionRequest
        self._request = requests.read(kind, document)

    def asked(self) -> Asked:
        """See `Language.read`."""
        asked = self._request
        inputs, options = asked.inputs(), self._model.options(asked.parameters())
        if asked.stream and len(inputs) > 1:
            raise BadRequest("stream: true needs one prompt")
        return Asked(inputs, options, self._reply, self._stream if asked.stream else None)

    def _reply(self, results: list[Any]) -> Reply:
        choices = [
            self._choice(index, self._content(one["generated_text"]), one["finish_reason"])
            for index, one in enumerate(results)
        ]
        prompt = sum(one["prompt_tokens"] for one in results)
        written = sum(one["generated_tokens"] for one in results)
        usage = _usage(prompt, written)
        return json_reply(self._document("", choices) | {"usage": usage})

    async def _stream(self, item: Any, pieces: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
        if self._chat:
            yield self._chunk(
                [self._choice(0, {"delta": {"role": "assistant", "content": ""}}, "")]
            )
        tokens = 0
        async for piece in pieces:
            tokens = piece.tokens
            part: dict[str, Any] = (
                {"delta": {"content": piece.text}} if self._chat else {"text": piece.text}
            )
            yield self._chunk([self._choice(0, part, piece.finish_reason)])
        if (self._request.stream_options or {}).get("include_usage"):
            usage = {"usage": _usage(len(item.ids), tokens)}
            yield event_line(self._document(".chunk", []) | usage)
        yield _DONE

    def _chunk(self, choices: list[dict[str, Any]]) -> bytes:
        return event_line(self._document(".chunk", choices))

    def _content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}

    def _choice(self, index: int, content: dict[str, Any], reason: str) -> dict[str, Any]:
        return {"index": index, **content, "logprobs": None, "finish_reason": reason or None}

    def _document(self, suffix: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        # A completion's chunks are called as the completion is.
        kind = f"chat.completion{suffix}" if self._chat else "text_completion"
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._name,
            "choices": choices,
        }


def _usage(prompt: int, written: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }
