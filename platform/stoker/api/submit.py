"""Writes what a client wants of a function: a new revision, zero, or away from zero.

This is the only place of the control port that writes functions. What follows from it, build and
switch, is the controller's.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import time
from collections.abc import Sequence
from typing import Any

from stoker.api.stream_notes import KAFKA_KINDS, stream_notes
from stoker.decide.ranks import VARIABLE, misdealt, ranks_of
from stoker.nouns.errors import FunctionNotFound, InvalidFunction, PreconditionFailed
from stoker.nouns.function import PROJECT_LABEL, FunctionConfig, FunctionSpec
from stoker.nouns.near import near_names
from stoker.nouns.parts import ACTING_TRIGGERS
from stoker.nouns.record import FunctionRecord, FunctionState, LogEntry, Revision
from stoker.nouns.secrecy import restored
from stoker.store import Store
from stoker.store.catalog import json_text

_ACTING = [field.alias or name for name, field in FunctionSpec.model_fields.items()]
_NOT_ACTING = (
    "volumes",
    "sidecars",
    "initContainers",
    "envFrom",
    "nodeName",
    "nodeSelector",
    "affinity",
    "tolerations",
    "securityContext",
    "priorityClassName",
    "imagePullSecrets",
)

Note = tuple[str, str]
"""A line of a deploy log: its level and its text."""


def prepared(body: dict[str, Any], *, name: str = "", project: str = "") -> dict[str, Any]:
    """The document to keep: the body whole, less ``status``, with name and project label set.

    Args:
        body: what the client sent.
        name: the name in the URL, when there is one.
        project: the header ``x-nuclio-project-name``.

    Raises:
        InvalidFunction: the body's name is another than the URL's.
    """
    document = {key: value for key, value in body.items() if key != "status"}
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    if name and metadata.get("name", name) != name:
        message = f"must be {name!r} as in the URL, was {metadata['name']!r}"
        raise InvalidFunction(
            f"invalid function: metadata.name: {message}",
            fields=[{"field": "metadata.name", "message": message}],
        )
    document["metadata"] = dict(metadata) | ({"name": name} if name else {})
    labels = document["metadata"].get("labels") or {}
    if project and isinstance(labels, dict):
        document["metadata"]["labels"] = labels | {PROJECT_LABEL: project}
    return document


async def create(
    store: Store, document: dict[str, Any], notes: Sequence[Note] = (), *, who: str = ""
) -> FunctionRecord:
    """Writes a new function's first revision. ``who`` deploys it, for the history.

    Raises:
        InvalidFunction: naming every field that is wrong.
        Conflict: the name exists.
        StoreUnavailable: Redis is gone.
    """
    document = restored(document)
    config = _checked(document)
    now = time.time()
    # Replicas of a deleted namesake may still drain: they must not pass for this revision's.
    leftover = [
        r.revision for r in (await store.list_replicas()).values() if r.function == config.name
    ]
    number = max(leftover, default=0) + 1
    record = FunctionRecord(
        name=config.name,
        project=config.project,
        created_at=now,
        **_candidate(document, config, number, now, notes, who),
    )
    await store.create_function(record)
    return record


async def update(
    store: Store,
    name: str,
    document: dict[str, Any],
    notes: Sequence[Note] = (),
    *,
    who: str = "",
) -> FunctionRecord:
    """Writes the next revision of a function, or the first when there is none: as Nuclio does.

    Args:
        store: where.
        name: the function's.
        document: its config.
        notes: further lines for the deploy log.
        who: who deploys it, for the history.

    Raises:
        InvalidFunction: naming every field that is wrong.
        StoreUnavailable: Redis is gone.
    """
    _checked(document)

    def next_revision(record: FunctionRecord) -> FunctionRecord:
        earlier = [revision.document for revision in record.revisions]
        whole = restored(document, *earlier)
        config = _checked(whole)
        change = _candidate(whole, config, record.last_revision + 1, time.time(), notes, who)
        return record.model_copy(update=change | {"project": config.project})

    try:
        return await store.update_function(name, next_revision)
    except FunctionNotFound:
        return await create(store, document, notes, who=who)


async def desire(store: Store, name: str, state: str) -> FunctionRecord:
    """Asks for zero (``scaledToZero``) or for a warm replica (``ready``).

    Raises:
        FunctionNotFound: there is none of that name.
        InvalidFunction: another state.
        PreconditionFailed: zero, but ``minReplicas`` is more.
        StoreUnavailable: Redis is gone.
    """
    if state not in (FunctionState.READY, FunctionState.SCALED_TO_ZERO):
        message = f'must be "ready" or "scaledToZero", was {state!r}'
        raise InvalidFunction(
            f"desiredState {message}", fields=[{"field": "desiredState", "message": message}]
        )
    to_zero = state == FunctionState.SCALED_TO_ZERO

    def change(record: FunctionRecord) -> FunctionRecord:
        least = (record.serving or record.current).config.min_replicas
        if to_zero and least > 0:
            raise PreconditionFailed(
                f"function {name} cannot go to zero: minReplicas must be 0, was {least} "
                "(1 when it is not declared)"
            )
        return record.model_copy(update={"desired_zero": to_zero, "updated_at": time.time()})

    await find(store, name)
    record = await store.update_function(name, change)
    if not to_zero:
        await store.ask_wake(name)
    return record


async def find(store: Store, name: str) -> FunctionRecord:
    """The function of that name.

    Raises:
        FunctionNotFound: there is none; ``detail["near"]`` has similar names.
        StoreUnavailable: Redis is gone.
    """
    record = await store.get_function(name)
    if record is None:
        near = near_names(name, list(await store.list_functions()))
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise FunctionNotFound(f"there is no function {name!r}{hint}", near=near)
    return record


def warnings(config: FunctionConfig) -> list[str]:
    """What the function declares that has no effect on one machine without Kubernetes."""
    found = [
        f"trigger {name!r} of kind {trigger.kind!r} is kept but does not act here"
        for name, trigger in config.spec.triggers.items()
        if trigger.kind not in {*ACTING_TRIGGERS, *KAFKA_KINDS}
    ]
    found += stream_notes(config)
    extra = config.spec.model_extra or {}
    found += [f"spec.{key} is kept but has no effect here" for key in _NOT_ACTING if extra.get(key)]
    found += [
        f"spec.{key} is kept but does not act; did you mean {near}?"
        for key in extra
        for near in difflib.get_close_matches(key, _ACTING, n=1, cutoff=0.85)
    ]
    found += [
        f"env {variable.name}: valueFrom is kept but not resolved here"
        for variable in config.spec.env
        if (variable.model_extra or {}).get("valueFrom")
    ]
    if _quantizes_nothing(config):
        found.append(
            "STOKER_QUANTIZATION is declared without STOKER_MODEL: the platform quantizes nothing, "
            "only the function's own code can act on it"
        )
    http = config.http_trigger
    if http.num_workers and http.max_workers and http.num_workers != http.max_workers:
        found.append(
            f"numWorkers {http.num_workers} wins over the deprecated maxWorkers {http.max_workers}"
        )
    return found


def _quantizes_nothing(config: FunctionConfig) -> bool:
    declared = {
        one.name for one in config.spec.env if one.value or (one.model_extra or {}).get("valueFrom")
    }
    asked = config.env.get("STOKER_QUANTIZATION", "").strip().lower()
    return asked not in ("", "none") and "STOKER_MODEL" not in declared


def _candidate(
    document: dict[str, Any],
    config: FunctionConfig,
    number: int,
    now: float,
    notes: Sequence[Note],
    who: str,
) -> dict[str, Any]:
    digest = hashlib.sha256(json_text.written(document, ordered=True)).hexdigest()
    return {
        "candidate": Revision(number=number, document=document, digest=digest, who=who),
        "last_revision": number,
        "state": FunctionState.WAITING_FOR_BUILD,
        "message": "",
        "desired_zero": False,
        "updated_at": now,
        "logs": tuple(
            LogEntry(time=now * 1000, level=level, message=text)
            for level, text in (*notes, *(("warn", text) for text in warnings(config)))
        ),
    }


def _checked(document: dict[str, Any]) -> FunctionConfig:
    config = FunctionConfig.parse(document)
    field = _bad_source(config) or _misdealt(config)
    if field is not None:
        message = f"invalid function: {field['field']}: {field['message']}"
        raise InvalidFunction(message, fields=[field])
    return config


def _misdealt(config: FunctionConfig) -> dict[str, str] | None:
    message = misdealt(ranks_of(config.env), config.workers, config.gpus)
    return {"field": VARIABLE, "message": message} if message else None


def _bad_source(config: FunctionConfig) -> dict[str, str] | None:
    try:
        base64.b64decode(config.spec.build.function_source_code or "", validate=True)
    except (binascii.Error, ValueError):
        return {"field": "spec.build.functionSourceCode", "message": "must be base64"}
    return None
