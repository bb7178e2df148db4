"""The status of a deployed function, as MLRun's clients read it: fields, headers, log lines."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from stoker.api.settings import ApiSettings
from stoker.api.view import invocation_address, record_secrets
from stoker.nouns.record import FunctionRecord, FunctionState, LogEntry
from stoker.nouns.secrecy import mask_text

_FAILED = (FunctionState.ERROR, FunctionState.UNHEALTHY)
_NOT_EXPOSED = "ClusterIP"
_HEADERS = {
    "state": "x-mlrun-function-status",
    "nuclio_name": "x-mlrun-name",
    "address": "x-mlrun-address",
    "internal_invocation_urls": "x-mlrun-internal-invocation-urls",
    "external_invocation_urls": "x-mlrun-external-invocation-urls",
    "container_image": "x-mlrun-container-image",
}


def status_fields(record: FunctionRecord, settings: ApiSettings) -> dict[str, Any]:
    """``status`` of a function object. The URLs are the same for all of the function's life."""
    return {"state": str(record.state), **addresses(record.name, _service_type(record), settings)}


def addresses(name: str, service_type: str, settings: ApiSettings) -> dict[str, Any]:
    """Where a function is called, by the name that it is deployed under."""
    address = invocation_address(name, settings)
    # MLRun's client speaks https to the external URL of such a service, plain http to its address.
    # To an exposed one it goes with a slash at the end, as on Nuclio's ingress: MLRun's examples
    # write f"{fn.deploy()}v2/models/…". The gateway takes two slashes for one.
    external = [] if service_type == _NOT_EXPOSED else [f"{address}/"]
    return {
        "nuclio_name": name,
        "address": address,
        "internal_invocation_urls": [address],
        "external_invocation_urls": external,
        "container_image": "",
    }


def _service_type(record: FunctionRecord) -> str:
    return str(record.current.document.get("spec", {}).get("serviceType") or "")


def awaited_state(record: FunctionRecord) -> str:
    """The state for a client that waits for the deployment to end.

    It stops at ``ready``, ``error`` and ``unhealthy`` alone: of a function that has been deployed
    and gone to zero since, it would wait for ever.
    """
    if record.state in _FAILED or not is_deployed(record):
        return str(record.state)
    return str(FunctionState.READY)


def is_deployed(record: FunctionRecord) -> bool:
    """Whether the last deployment has succeeded, whatever the function scaled to since."""
    return record.candidate is None and record.serving is not None


def has_ended(record: FunctionRecord) -> bool:
    """Whether a client that waits for the deployment can be told its end."""
    return is_deployed(record) or record.state in _FAILED


def entries_since(record: FunctionRecord, since_ms: float) -> list[LogEntry]:
    """The log's entries after a time, in milliseconds since 1970, in order."""
    return sorted((e for e in record.logs if e.time > since_ms), key=lambda entry: entry.time)


def headers(status: dict[str, Any], last_ms: float) -> dict[str, str]:
    """The status as headers; lists with commas."""
    found = {
        header: ",".join(value) if isinstance(value, list) else str(value)
        for key, header in _HEADERS.items()
        if (value := status.get(key)) is not None
    }
    return found | {"x-mlrun-last-timestamp": str(last_ms)}


def log_text(
    record: FunctionRecord, entries: Iterable[LogEntry], settings: ApiSettings, *, verbose: bool
) -> str:
    """Log lines as MLRun's server writes them, secrets masked."""
    secrets = record_secrets(record) | settings.secrets
    lines = []
    for entry in entries:
        moment = datetime.fromtimestamp(entry.time / 1000).astimezone()
        message = mask_text(entry.message, secrets)
        lines.append(f"{moment:%Y-%m-%d %H:%M:%S}  ({entry.level}) {message}")
        if verbose:
            lines.append(str(entry.model_dump() | {"message": message}))
    return "\n".join(lines)
