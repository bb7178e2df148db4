"""A function record as Nuclio's clients see it: metadata, spec, status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from stoker.api.settings import ApiSettings
from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.function import PROJECT_LABEL
from stoker.nouns.record import FunctionRecord, Revision
from stoker.nouns.secrecy import mask_text, masked, secret_values
from stoker.store import Store

NAMESPACE = "nuclio"
"""Nuclio's own default off Kubernetes; there is only this one here."""
_NOT_EXPORTED = ("namespace", "resourceVersion", "creationTimestamp", "uid")


def function_document(record: FunctionRecord, settings: ApiSettings) -> dict[str, Any]:
    """The whole function, secrets masked."""
    document = _shown(record)
    document["metadata"].setdefault("namespace", NAMESPACE)
    document["status"] = _status(record, settings)
    return document


def exported(record: FunctionRecord) -> dict[str, Any]:
    """The function as it could be deployed elsewhere: no status, nothing of this home."""
    document = _shown(record)
    for key in _NOT_EXPORTED:
        document["metadata"].pop(key, None)
    return {"metadata": document["metadata"], "spec": document["spec"]}


def invocation_address(name: str, settings: ApiSettings) -> str:
    """``host:port/function``: a function's URL without a scheme, the same for all of its life."""
    return f"{settings.gateway_address}/{name}"


def namespace_of(record: FunctionRecord) -> str:
    """The namespace that the function claims."""
    return str(record.current.document.get("metadata", {}).get("namespace") or NAMESPACE)


def record_secrets(record: FunctionRecord) -> set[str]:
    """The secret values of all its revisions: a log may hold any one's."""
    return {
        value
        for revision in record.revisions
        for value in secret_values(revision.document).values()
    }


class KnownSecrets:
    """The secret values of a function as it changes; what was one once stays one.

    Single writer: the one stream that calls it.
    """

    def __init__(self, store: Store, record: FunctionRecord, settings: ApiSettings) -> None:
        self._store = store
        self._name = record.name
        self._values = record_secrets(record) | settings.secrets

    async def __call__(self) -> set[str]:
        """All that were seen; with the store away, those known so far: logs must not end then."""
        try:
            record = await self._store.get_function(self._name)
        except StoreUnavailable:
            return self._values
        if record is not None:
            self._values |= record_secrets(record)
        return self._values


def _shown(record: FunctionRecord) -> dict[str, Any]:
    document = masked(record.current.document)
    metadata = document.get("metadata") or {}
    # nuclio-jupyter reads labels without asking whether there are any.
    labels = {PROJECT_LABEL: record.project} | (metadata.get("labels") or {})
    document["metadata"] = metadata | {"name": record.name, "labels": labels}
    document["spec"] = document.get("spec") or {}
    return document


def _status(record: FunctionRecord, settings: ApiSettings) -> dict[str, Any]:
    secrets = record_secrets(record) | settings.secrets
    address = invocation_address(record.name, settings)
    return {
        "state": record.state.value,
        "message": mask_text(record.message, secrets),
        "model": _model(record.current),
        "logs": [
            {
                "time": entry.time,
                "level": entry.level,
                "message": mask_text(entry.message, secrets),
            }
            for entry in record.logs
        ],
        "httpPort": settings.gateway_port,
        "internalInvocationUrls": [address],
        "externalInvocationUrls": [address],
        "scaleToZero": {
            "lastScaleEvent": record.last_scale_event,
            "lastScaleEventTime": _timestamp(record.last_scale_time),
        },
        "revision": _number(record.current),
        "servingRevision": _number(record.serving),
        "canary": canary_of(record),
    }


def canary_of(record: FunctionRecord) -> dict[str, Any] | None:
    """The canary's number and its share of the requests (0 to 1); None when there is none."""
    if record.canary is None:
        return None
    return {"revision": record.canary.revision.number, "share": record.canary.share}


def _number(revision: Revision | None) -> int | None:
    return revision.number if revision else None


def _timestamp(epoch_s: float) -> str | None:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat() if epoch_s else None


def _model(revision: Revision) -> dict[str, Any] | None:
    """Its prepared checkpoint: the key below the home's models, and bytes."""
    model = revision.model
    return {"key": model.key, "weights": model.weights} if model and model.key else None
