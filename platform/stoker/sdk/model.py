"""The function's model, as ``STOKER_MODEL`` and its other variables declare it."""

from __future__ import annotations

import os
from typing import Any


def load_model(context: Any) -> Any:
    """Loads the model that this function's environment declares.

    Call it once, in ``init_context``; keep what it returns (``context.user_data.model = …``) and
    call it in the handler: ``model(inputs, parameters)`` gives one result for each input, as
    ``STOKER_TASK`` says. A model of feature-extraction also has ``encode(texts)``, which gives one
    array of all vectors. On Stoker the build step has prepared the model already; elsewhere the
    first worker prepares it.

    Args:
        context: the handler's context; its logger is told what was loaded.

    Returns:
        A `stoker.models.tasks.task.TaskModel`.

    Raises:
        InvalidFunction: a variable is wrong.
        UnusableModel: the model is not there or cannot be used as declared.
    """
    from stoker.models.load import load_from
    from stoker.models.tasks import as_task

    model = as_task(load_from(os.environ, context.logger.info))
    context.logger.info_with(
        "Model loaded",
        model=model.manifest.model,
        task=str(model.task),
        quantization=str(model.manifest.quantization),
        backend=model.manifest.backend,
        device=model.manifest.device,
        seconds=round(model.load_seconds, 3),
        times_reading_its_bytes=_share(model.load_seconds, model.manifest.read_seconds),
    )
    return model


def _share(seconds: float, reading: float) -> float | None:
    """A load beside reading the bytes once: far above 1, time goes into something else."""
    return round(seconds / reading, 2) if reading else None
