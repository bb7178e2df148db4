"""The protocol's paths."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote

from stoker.nouns.errors import MethodNotAllowed, NotFound

VERSION = "1"
"""A function's model has one version at a time: a new one is a new revision of the function."""


class Ask(StrEnum):
    """What a request is about."""

    SERVER = "server"
    LIVE = "live"
    READY = "ready"
    MODEL = "model"
    MODEL_READY = "model ready"
    INFER = "infer"


class Route(NamedTuple):
    """What is asked, and of which model: empty for the server itself."""

    ask: Ask
    model: str = ""


_OF_SERVER = {(): Ask.SERVER, ("health", "live"): Ask.LIVE, ("health", "ready"): Ask.READY}
_OF_MODEL = {(): Ask.MODEL, ("ready",): Ask.MODEL_READY, ("infer",): Ask.INFER}


def is_ours(path: str) -> bool:
    """Whether a path is one of the protocol."""
    return path == "/v2" or path.startswith("/v2/")


def route(method: str, path: str) -> Route:
    """What a method and a path of the protocol mean.

    Raises:
        NotFound: there is no such path, or no such version.
        MethodNotAllowed: ``infer`` is POST, all else is GET.
    """
    parts = tuple(part for part in path.split("/")[2:] if part)
    found = _find(parts, path)
    allowed = ("POST",) if found.ask is Ask.INFER else ("GET", "HEAD")
    if method not in allowed:
        raise MethodNotAllowed(f"{path} takes {allowed[0]}, was {method}")
    return found


def _find(parts: tuple[str, ...], path: str) -> Route:
    if parts in _OF_SERVER:
        return Route(_OF_SERVER[parts])
    if len(parts) > 1 and parts[0] == "models":
        rest = parts[2:]
        if rest[:1] == ("versions",) and len(rest) > 1:
            if rest[1] != VERSION:
                raise NotFound(f"there is no version {rest[1]!r}; there is {VERSION}")
            rest = rest[2:]
        if rest in _OF_MODEL:
            return Route(_OF_MODEL[rest], unquote(parts[1]))
    raise NotFound(f"the Open Inference Protocol has no path {path}")
