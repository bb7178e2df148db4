"""The handler of a function without code: ``handler: stoker.models.serve:handler``.

``STOKER_MODEL`` and ``STOKER_TASK`` say what it serves. It answers plain JSON and raw pictures and
sounds at ``/``, the Open Inference Protocol at ``/v2/…``, and OpenAI's API at ``/v1/…``; events
that come in a batch run together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from stoker.models.serving.asked import Reply, Served
from stoker.models.serving.running import Job, Run, drained
from stoker.nouns.errors import HandlerFailed


def init_context(context: Any) -> None:
    """Loads the model. Nuclio calls it once a worker."""
    from stoker.sdk.model import load_model

    context.user_data.served = Served(load_model(context), names_of(os.environ), int(time.time()))


def handler(context: Any, event: Any) -> Any:
    """Answers an event, or a list of events with a list of answers.

    An answer that takes more than one step of the model is a coroutine, or a stream. Those of a
    batch go on beside each other; cancelling one ends its own part of the run. Real Nuclio takes
    neither of a handler that is not ``async``: there every answer is whole, a stream in one piece.
    """
    events = event if isinstance(event, list) else [event]
    run = Run(context.user_data.served, events, context.logger.error)
    run.step()
    if not all(hasattr(one, "_request") for one in events):  # not of Stoker's worker
        run.finish()
        answers = [_response(context, _in_one_piece(run.reply(job))) for job in run.jobs]
    else:
        answers = [_answer(context, run, job) for job in run.jobs]
    return answers if isinstance(event, list) else answers[0]


def _answer(context: Any, run: Run, job: Job) -> Any:
    reply = run.reply(job)
    return _later(context, run, job) if reply is None else _response(context, reply)


def _in_one_piece(reply: Reply | None) -> Reply:
    if reply is None:
        raise HandlerFailed("the run ended without an answer to every event")
    return reply if isinstance(reply.body, bytes) else reply._replace(body=drained(reply.body))


async def _later(context: Any, run: Run, job: Job) -> Any:
    return _response(context, await run.awaited(job))


def names_of(env: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the model: ``STOKER_MODEL_NAME``, and the function's own."""
    names = (env.get("STOKER_MODEL_NAME", ""), env.get("NUCLIO_FUNCTION_NAME", ""))
    return tuple(dict.fromkeys(name for name in names if name)) or ("model",)


def _response(context: Any, reply: Reply) -> Any:
    return context.Response(
        body=reply.body,
        headers=reply.headers,
        content_type=reply.content_type,
        status_code=reply.status,
    )
