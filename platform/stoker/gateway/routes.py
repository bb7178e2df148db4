"""From a request target to a function."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import orjson

from stoker.decide.route import precedence
from stoker.nouns.errors import BadRequest, FunctionNotFound, NotFound
from stoker.nouns.function import DEFAULT_MAX_BODY_BYTES
from stoker.nouns.near import near_names
from stoker.nouns.parts import RESERVED_NAMES
from stoker.sdk.routing import Lane, Router

TARGET_HEADER = "x-nuclio-target"
TRIGGER_HEADER = "x-nuclio-invoke-trigger"


def origin_form(target: str) -> str:
    """The path and query of a request target, whichever form it has (RFC 9112, 3.2).

    Raises:
        BadRequest: the target names no path.
    """
    if target.startswith("/"):
        return target
    try:
        parts = urlsplit(target)
    except ValueError as exc:
        raise BadRequest(f"the request target cannot be read: {exc}") from exc
    if not parts.scheme or not parts.netloc:
        raise BadRequest(f"the request target must be a path, was {target[:100]!r}")
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def first_segment(path: str) -> tuple[str, str]:
    """The first segment and what follows it, which is a path of its own.

    >>> first_segment("/f/a?b"), first_segment("/f?b"), first_segment("/f")
    (('f', '/a?b'), ('f', '/?b'), ('f', '/'))
    >>> first_segment("/f//a")  # a client that joined an address ending in "/" and a path
    ('f', '/a')
    """
    slash = path.find("/", 1)
    query = path.find("?", 1)
    if query >= 0 and (slash < 0 or query < slash):
        return path[1:query], "/" + path[query:]
    if slash < 0:
        return path[1:], "/"
    name = path[1:slash]
    while path.startswith("//", slash):
        slash += 1
    return name, path[slash:]


def find(router: Router, path: str, headers: Mapping[str, str]) -> tuple[Lane, str] | None:
    """The function's lane and the path it shall see; None for a route of our own.

    Raises:
        FunctionNotFound: nothing has that name.
        NotFound: the target names nothing at all.
    """
    name, rest = first_segment(path)
    if TARGET_HEADER in headers:
        target = named(router, headers[TARGET_HEADER].strip())
        # mlrun's invoke() calls a function's own URL and names it in the header as well.
        return target, rest if name == target.name else path
    lane = router.lanes.get(name)
    if lane is not None:
        return lane, rest
    if name == "v2":
        return _by_model_path(router, path)
    if name in RESERVED_NAMES:
        return None
    if not name:
        raise NotFound("the path must begin with a function's name: /<function>/<path>")
    raise router.unknown(name)


def trigger_of(headers: Mapping[str, str]) -> str:
    """The trigger that an event names, when it is not the http trigger it came by; else empty."""
    return "cron" if headers.get(TRIGGER_HEADER) == "cron" else ""


def largest_body(router: Router) -> int:
    """The most bytes that any function takes: the bound of a body that has yet to name one."""
    limits = (lane.limits.max_body_bytes for lane in router.lanes.values())
    return max(limits, default=DEFAULT_MAX_BODY_BYTES)


def named(router: Router, name: str) -> Lane:
    """The lane of a function.

    Raises:
        FunctionNotFound: nothing has that name.
    """
    lane = router.lanes.get(name)
    if lane is None:
        raise router.unknown(name)
    return lane


def by_model(router: Router, model: str) -> Lane:
    """The function that serves a model: the one of that name, else one that declares it.

    Of several that declare it always the same one (`precedence`), whichever gateway is asked.

    Raises:
        FunctionNotFound: no function does.
    """
    lane = router.lanes.get(model)
    if lane is not None:
        return lane
    declaring = [lane for lane in router.lanes.values() if lane.limits.model == model]
    if declaring:
        return min(declaring, key=_precedence)
    near = near_names(model, [lane.limits.model or lane.name for lane in router.lanes.values()])
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise FunctionNotFound(f"no function serves the model {model!r}{hint}", near=near)


def _precedence(lane: Lane) -> tuple[bool, float, str]:
    serves = bool(lane.serving) and not lane.limits.disabled
    return precedence(lane.name, serves=serves, created_at=lane.record.created_at)


def by_model_field(router: Router, body: bytes) -> Lane:
    """The function that an OpenAI request names in ``model``.

    Raises:
        BadRequest: the body names none.
        FunctionNotFound: no function serves it.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body must be JSON: {exc}") from exc
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, str) or not model:
        raise BadRequest('the body must be a JSON object with a "model"', field="model")
    return by_model(router, model)


def _by_model_path(router: Router, path: str) -> tuple[Lane, str] | None:
    """``/v2/models/<model>/…`` keeps its path: model servers route by it themselves."""
    parts = path.partition("?")[0].split("/")
    if len(parts) > 3 and parts[2] == "models" and parts[3]:
        return by_model(router, unquote(parts[3])), path
    return None
