"""The triggers of a graph's child function behind a queue: it has no http trigger of its own.

MLRun's client gives a child its stream trigger only when its parent is deployed. What was declared
on the child before (``stoker.gpu(child, workers=2)``) found no trigger and made one for http,
behind which MLRun's runtime acknowledges no record: one that fails would be lost.
"""

from __future__ import annotations

from typing import Any

from stoker.api.mlrun.function_object import FunctionObject, mapping
from stoker.api.submit import Note
from stoker.nouns.stream_trigger import STREAM_KINDS

PARENT_LABEL = "mlrun/parent-function"
_WORKERS = ("numWorkers", "maxWorkers")
_OF_HTTP = ("batch", "workerAvailabilityTimeoutMilliseconds")
_DECLARED = frozenset({"kind", "name", *_WORKERS, *_OF_HTTP})
"""What ``stoker.gpu`` declares; mlrun's ``with_http`` writes more, and means http."""


def behind_its_queue(
    function: FunctionObject, triggers: dict[str, Any]
) -> tuple[dict[str, Any], list[Note]]:
    """The triggers, the workers of an http trigger that nobody calls given to the stream's.

    Returns:
        The triggers, and what the user should know.
    """
    streams = _of_kind(triggers, STREAM_KINDS)
    https = _of_kind(triggers, frozenset({"http"}))
    is_child = bool(mapping(function.metadata, "labels").get(PARENT_LABEL))
    if not is_child or not streams or any(set(held) - _DECLARED for held in https.values()):
        return triggers, []
    kept = {name: held for name, held in triggers.items() if name not in https}
    notes: list[Note] = []
    for http in https.values():
        workers = http.get("numWorkers") or http.get("maxWorkers") or 1
        if workers != 1:  # one is what a new trigger begins with
            kept |= {name: held | _numbers(held, workers) for name, held in streams.items()}
        lost = [key for key in _OF_HTTP if http.get(key)]
        if lost:
            text = f"{', '.join(lost)} of http has no effect on a function behind a queue"
            notes.append(("warn", text))
    return kept, notes


def _of_kind(triggers: dict[str, Any], kinds: frozenset[str]) -> dict[str, dict[str, Any]]:
    return {
        name: held
        for name, held in triggers.items()
        if isinstance(held, dict) and held.get("kind", "http") in kinds
    }


def _numbers(trigger: dict[str, Any], workers: Any) -> dict[str, Any]:
    return {key: workers for key in _WORKERS if key == "numWorkers" or key in trigger}
