"""The handler of a function without code: ``handler: stoker.models.serve:handler``.

``STOKER_MODEL`` and ``STOKER_TASK`` say what it serves. It answers plain JSON and raw pictures and
sounds at ``/``, the Open Inference Protocol at ``/v2/…``, and OpenAI's API at ``/v1/…``; events
that come in a batch run together.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

from stoker.models.serving.asked import Reply, Served
from stoker.models.serving.running import answer
from stoker.models.tasks.steps import Steps, at_once


def init_context(context: Any) -> None:
    """Loads the model. Nuclio calls it once a worker."""
    from stoker.sdk.model import load_model

    context.user_data.served = Served(load_model(context), names_of(os.environ), int(time.time()))


def handler(context: Any, event: Any) -> Any:
    """Answers an event, or a list of events with a list of answers.

    An event whose answer takes long gets a coroutine, which is cancelled when its client has left:
    the worker sees that between two steps.
    """
    served, log = context.user_data.served, context.logger.error
    if isinstance(event, list):
        replies = at_once(answer(served, event, log, batched=True))
        return [_response(context, reply) for reply in replies]
    steps = answer(served, [event], log, batched=False)
    try:
        next(steps)
    except StopIteration as end:
        return _response(context, end.value[0])
    return _rest(context, steps)


async def _rest(context: Any, steps: Steps[list[Reply]]) -> Any:
    try:
        while True:
            await asyncio.sleep(0)
            next(steps)
    except StopIteration as end:
        return _response(context, end.value[0])
    finally:
        steps.close()


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
