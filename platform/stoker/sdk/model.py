"""The function's model, as ``STOKER_MODEL`` and its other variables declare it."""

from __future__ import annotations

import os
from typing import Any


def load_model(context: Any) -> Any:
    """Loads the model that this function's environment declares.

    Call it once, in ``init_context``; keep what it returns (``context.user_data.model = …``) and
    call its ``encode(texts)`` in the handler. On Stoker the build step has prepared the model
    already; elsewhere the first worker prepares it.

    Args:
        context: the handler's context; its logger is told what was loaded.

    Returns:
        A `stoker.models.encoder.Model` for ``feature-extraction``, else the model of the task.

    Raises:
        InvalidFunction: a variable is wrong.
        UnusableModel: the model is not there or cannot be used as declared.
    """
    from stoker.models.load import load_from

    model = load_from(os.environ, context.logger.info)
    context.logger.info_with(
        "Model loaded",
        model=model.manifest.model,
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
