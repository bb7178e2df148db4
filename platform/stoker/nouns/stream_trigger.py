"""The trigger that reads a stream: Nuclio's ``v3ioStream``, its attributes read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from stoker.nouns.errors import BadRequest
from stoker.nouns.stream import GROUP, stream_name

STREAM_KINDS = frozenset({"v3ioStream", "v3io-stream"})
"""The kind in a function's config, and how Nuclio spells it in events; both are taken."""
STREAM_KIND = "v3ioStream"
EVENT_KIND = "v3io-stream"
"""What Nuclio writes into the events of such a trigger, other than into the context."""
DEFAULT_READ_BATCH = 64
DEFAULT_POLL_MS = 500
DEFAULT_WINDOW = 10_000
DEFAULT_TRIES = 5
DEFAULT_RETRY_MS = 1000
_UNRESOLVED_HOST = "v3io-webapi"
"""The host in a trigger whose stream's path named none."""


class AckMode(StrEnum):
    """Who says that a record is done."""

    DISABLE = "disable"
    """Its handler, by returning without an error."""
    ENABLE = "enable"
    """The same, unless its answer carries ``x-nuclio-stream-no-ack``."""
    EXPLICIT_ONLY = "explicitOnly"
    """Only ``context.platform.explicit_ack``."""


@dataclass(frozen=True, slots=True)
class StreamTrigger:
    """One trigger that reads a stream.

    Attributes:
        stream: the stream's name (`stream_name`).
        stream_path: ``streamPath`` as events show it.
        group: the consumer group.
        from_start: a new group begins with the first record, not after the last.
        read_batch: most records in hand that were not given to a handler yet, or that wait for
            their next try.
        poll_s: between looks at an empty shard, should its bell be lost; seconds.
        window: most records of one shard that were given to a handler and not acknowledged.
        ack: who acknowledges.
        sticky: records of one shard go to one worker for as long as it lives.
        tries: after so many failed tries a record goes to the dead letters.
        retry_s: before the second try, seconds; doubled for each further one.
        webapi: where a real platform would read the stream.
    """

    name: str
    stream: str
    stream_path: str
    group: str
    from_start: bool = False
    read_batch: int = DEFAULT_READ_BATCH
    poll_s: float = DEFAULT_POLL_MS / 1000
    window: int = DEFAULT_WINDOW
    ack: AckMode = AckMode.DISABLE
    sticky: bool = False
    tries: int = DEFAULT_TRIES
    retry_s: float = DEFAULT_RETRY_MS / 1000
    webapi: str = ""

    @property
    def explicit(self) -> bool:
        """Whether a handler may hold an acknowledgement back."""
        return self.ack is not AckMode.DISABLE

    @property
    def foreign_host(self) -> str:
        """The host that the trigger names, when it names one; empty otherwise."""
        host = urlsplit(self.webapi).hostname or ""
        return "" if host == _UNRESOLVED_HOST else host


def read_stream_trigger(
    name: str, attributes: Mapping[str, Any], *, url: str = "", ack_mode: str | None = None
) -> StreamTrigger:
    """A trigger as its function declares it.

    Raises:
        ValueError: naming the attribute, what it must be and what it was.
    """
    container, path, group, webapi = _place(attributes, url)
    mode = _ack_mode(ack_mode)
    allocation = attributes.get("workerAllocationMode") or "pool"
    if allocation not in ("pool", "static"):
        raise ValueError(
            f'attributes.workerAllocationMode must be "pool" or "static", was {allocation!r}'
        )
    seek = str(attributes.get("seekTo") or "latest").lower()
    if seek not in ("earliest", "latest"):
        raise ValueError(f'attributes.seekTo must be "earliest" or "latest", was {seek!r}')
    return StreamTrigger(
        name=name,
        stream=_stream(container, path),
        stream_path=path.strip("/"),
        group=group,
        from_start=seek == "earliest",
        read_batch=_number(attributes, "readBatchSize", DEFAULT_READ_BATCH, 1, 10_000),
        poll_s=_number(attributes, "pollingIntervalMs", DEFAULT_POLL_MS, 1, 60_000) / 1000,
        window=_number(attributes, "ackWindowSize", 0, 0, 1_000_000) or DEFAULT_WINDOW,
        ack=mode,
        sticky=allocation == "static" or mode is not AckMode.DISABLE,
        tries=_number(attributes, "maxTries", DEFAULT_TRIES, 1, 1000),
        retry_s=_number(attributes, "retryIntervalMs", DEFAULT_RETRY_MS, 1, 3_600_000) / 1000,
        webapi=webapi,
    )


def check_acknowledged_apart(triggers: Iterable[StreamTrigger]) -> None:
    """Refuses triggers whose explicit acknowledgements nothing could tell apart.

    ``nuclio_sdk.QualifiedOffset`` names a stream's path and its shard, neither container nor group:
    an offset would be acknowledged where it was not meant, and a record be lost that is not done.

    Raises:
        ValueError: naming them.
    """
    known: dict[str, str] = {}
    for trigger in triggers:
        if not trigger.explicit:
            continue
        other = known.setdefault(trigger.stream_path, trigger.name)
        if other != trigger.name:
            raise ValueError(
                "triggers: only one with an explicitAckMode may have the streamPath "
                f"{trigger.stream_path!r}, for acknowledgements name nothing else, was "
                f"{other!r} and {trigger.name!r}"
            )


def _place(attributes: Mapping[str, Any], url: str) -> tuple[str, str, str, str]:
    """Container, path, group and host; the older form has all four in the URL."""
    container = str(attributes.get("containerName") or "")
    path = str(attributes.get("streamPath") or "")
    group = str(attributes.get("consumerGroup") or "")
    if not (container or path or group) and "@" in url:
        parts = urlsplit(url)
        place, _, group = parts.path.rpartition("@")
        container, _, path = place.strip("/").partition("/")
        url = f"{parts.scheme}://{parts.netloc}"
    for field, value in (("containerName", container), ("streamPath", path)):
        if not value.strip("/"):
            raise ValueError(f"attributes.{field} must name where the stream is, was {value!r}")
    if not GROUP.fullmatch(group):
        raise ValueError(
            "attributes.consumerGroup must be at most 128 of letters, digits, '_', '-' and '.', "
            f"beginning with a letter, a digit or '_', was {group!r}"
        )
    return container, path, group, url


def _stream(container: str, path: str) -> str:
    try:
        return stream_name(container, path)
    except BadRequest as exc:
        raise ValueError(f"attributes.streamPath: {exc.message}") from exc


def _ack_mode(given: str | None) -> AckMode:
    try:
        return AckMode(given or AckMode.DISABLE)
    except ValueError:
        raise ValueError(
            f'explicitAckMode must be "disable", "enable" or "explicitOnly", was {given!r}'
        ) from None


def _number(attributes: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    given = attributes.get(name)
    if given is None or given == "":
        return default
    text = str(given)
    if isinstance(given, bool) or not text.isdecimal() or not least <= int(text) <= most:
        raise ValueError(
            f"attributes.{name} must be a whole number from {least} to {most}, was {given!r}"
        )
    return int(text)
