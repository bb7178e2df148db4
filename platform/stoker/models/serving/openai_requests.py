"""The bodies of OpenAI's requests: what is acted on, what is ignored, what is refused."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from stoker.nouns.errors import BadRequest

EXAMPLES = {
    "/v1/embeddings": '{"model": "…", "input": "…" or ["…", "…"]}',
    "/v1/completions": '{"model": "…", "prompt": "…", "max_tokens": 16}',
    "/v1/chat/completions": (
        '{"model": "…", "messages": [{"role": "user", "content": "…"}], "max_tokens": 16}'
    ),
}
_IGNORED = frozenset(
    {"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
)
"""They change nothing of the answer."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (None, False),
    "top_logprobs": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "suffix": (None,),
    "tools": (None, []),
    "tool_choice": (None, "none"),
    "response_format": (None, {"type": "text"}),
    "dimensions": (None,),
}
"""Of what is not supported, the values that ask for nothing: clients like to send them."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    adapter: str = ""


class EmbeddingRequest(_Request):
    """``POST /v1/embeddings``."""

    input: str | tuple[str, ...]
    encoding_format: Literal["float", "base64"] = "float"


class _WritingRequest(_Request):
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("max_completion_tokens", "max_tokens"),
    )
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | tuple[str, ...] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None

    def inputs(self) -> list[Any]:
        """What to continue."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """The task's parameters. OpenAI's default temperature is 1."""
        given = {
            "adapter": self.adapter,
            "max_new_tokens": self.max_tokens,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": self.stop,
        }
        return {name: value for name, value in given.items() if value is not None}


class CompletionRequest(_WritingRequest):
    """``POST /v1/completions``."""

    prompt: str | tuple[str, ...]
    echo: bool = False

    def inputs(self) -> list[Any]:
        """See `_WritingRequest`."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)
        if not prompts:
            raise BadRequest("prompt must be a text or a list of texts, was an empty list")
        return prompts

    def parameters(self) -> dict[str, Any]:
        """See `_WritingRequest`."""
        return super().parameters() | {"return_full_text": self.echo}


class ChatRequest(_WritingRequest):
    """``POST /v1/chat/completions``."""

    messages: list[dict[str, Any]] = Field(min_length=1)

    def inputs(self) -> list[Any]:
        """See `_WritingRequest`."""
        return [
            [{**message, "content": _text(message.get("content"))} for message in self.messages]
        ]


R = TypeVar("R", bound=_Request)


def read(kind: type[R], document: Mapping[str, Any]) -> R:
    """Checks a body.

    Raises:
        BadRequest: naming each field that is wrong, unknown, or asks for what is not supported.
    """
    kept = {}
    for name, value in document.items():
        if name in _NEUTRAL:
            if not any(_same(value, neutral) for neutral in _NEUTRAL[name]):
                raise BadRequest(f"{name}: {value!r:.60} is not supported; leave it out")
        elif name not in _IGNORED:
            kept[name] = value
    try:
        return kind.model_validate(kept)
    except ValidationError as exc:
        raise BadRequest("; ".join(dict.fromkeys(map(_in_words, exc.errors())))) from exc


def _same(value: Any, neutral: Any) -> bool:
    """Python has 0 equal to False, and ``logprobs: 0`` asks for something."""
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)


def _in_words(error: Any) -> str:
    """One of pydantic's errors; of a field of two types it gives one for each of them."""
    field = error["loc"][0]
    if error["type"] == "extra_forbidden":
        return f"{field}: is not known here; leave it out"
    if field in ("prompt", "input"):
        return f"{field}: must be a text or a list of texts; token ids are not taken"
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def as_base64(vector: Any) -> str:
    """Little-endian float32, as OpenAI's own client asks for."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _text(content: Any) -> Any:
    """The text of a message whose content comes in parts."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        raise BadRequest("messages: only parts of type text are taken")
    return "".join(str(part.get("text", "")) for part in content)
