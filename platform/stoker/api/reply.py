"""Replies and errors of the control port, in the shape that the asked route's clients expect."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from stoker.nouns.errors import BadRequest, Forbidden, StokerError, Unauthorized
from stoker.store.catalog import json_text

_MLRUN = ("/api/v1", "/api/v2")
_OWN = ("/api/stoker", "/api/streams", "/api/rollouts", *_MLRUN)


class Json(Response):
    """A JSON reply."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return json_text.written(content)


def speaks_nuclio(path: str) -> bool:
    """Whether the path belongs to Nuclio's dashboard API."""
    return path.startswith("/api/") and not path.startswith(_OWN)


def speaks_mlrun(path: str) -> bool:
    """Whether the path belongs to MLRun's API."""
    return path.startswith(_MLRUN)


def error_reply(error: StokerError, path: str) -> Response:
    """The error as Nuclio's clients read it on Nuclio's routes, in our envelope elsewhere.

    On MLRun's routes the envelope has MLRun's ``detail`` beside it, which its client shows. The
    guard's refusals wear our envelope everywhere: those who meet them are not Nuclio's clients.
    """
    headers = error.headers() | {"X-Stoker-Error": error.code}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="stoker"'
    if speaks_nuclio(path) and not isinstance(error, (Unauthorized, Forbidden)):
        body: Any = {"error": error.message, "errorStackTrace": stack(error)}
    elif speaks_mlrun(path):
        body = {"detail": error.message, **error.envelope()}
    else:
        body = error.envelope()
    return Json(body, status_code=error.status, headers=headers)


def stack(error: BaseException) -> str:
    """The chain of causes, a line each: what Nuclio calls the error's stack trace."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    return "\n".join(lines)


async def json_body(request: Request) -> dict[str, Any]:
    """The request's body, which must be a JSON object.

    MLRun's client writes NaN and numbers of any size. Elsewhere JSON is what its standard says.

    Raises:
        BadRequest: it is not.
    """
    body = await request.body()
    parsed = json_text.parsed if speaks_mlrun(request.url.path) else orjson.loads
    try:
        if len(body) < json_text.LARGE_BYTES:
            document = parsed(body)
        else:
            document = await asyncio.to_thread(parsed, body)
    except ValueError as exc:
        raise BadRequest(f"the body must be JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise BadRequest(f"the body must be a JSON object, was {type(document).__name__}")
    return document


def flag(text: str | None, default: bool = False) -> bool:
    """A boolean of a header or a query: ``true``, ``1``, ``yes`` or ``on``, in any case."""
    if text is None or text == "":
        return default
    return text.strip().lower() in ("true", "1", "yes", "on")
