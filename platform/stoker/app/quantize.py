"""``stoker.quantize``: recipes proved on the platform of a home, the winner deployed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stoker.app.files import read_json
from stoker.app.lock import holder
from stoker.app.settings import Endpoints
from stoker.nouns.errors import NotFound
from stoker.nouns.home import Home
from stoker.quality.result import QualityRun
from stoker.quality.run import run_quality


def quantize(
    folder: str | os.PathLike[str],
    *,
    function: str | None = None,
    rollout: bool = True,
    home: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = print,
) -> QualityRun:
    """Does what ``stoker ci quantize`` does, from Python: see docs/quality.md.

    Args:
        folder: of the function, with its ``function.yaml`` and ``quality.yaml``.
        function: the name that it serves under; default the one in ``function.yaml``.
        rollout: whether the winner is deployed, as a canary.
        home: of the running platform; default ``STOKER_HOME``, else ``~/.stoker``.
        progress: told a line a step.

    Raises:
        NotFound: no platform runs on that home.
        InvalidFunction: the declaration is wrong; the message names the file and the field.
        Conflict: another run for this function is under way.
    """
    place = Home.at(home)
    if holder(place.lock) is None:
        raise NotFound(f"no platform runs on {place.root}: start one with `stoker up`")
    endpoints = Endpoints.model_validate(read_json(place.endpoints))
    return run_quality(
        Path(folder),
        control_url=endpoints.control_url,
        gateway_url=endpoints.gateway_url,
        home=place.root,
        function=function,
        rollout=rollout,
        out=None,
        progress=progress,
    )
