"""What a request of MLRun's client asks for in its query, checked."""

from __future__ import annotations

from starlette.datastructures import QueryParams

from stoker.nouns.errors import BadRequest
from stoker.store.catalog import times


def text(query: QueryParams, name: str) -> str | None:
    """A text; None when it is not there or empty."""
    return query.get(name) or None


def texts(query: QueryParams, *names: str) -> tuple[str, ...]:
    """All texts under these names: clients of other versions use another name."""
    return tuple(value for name in names for value in query.getlist(name) if value)


MOST = 2**31 - 1
"""Nobody has more pages, iterations or lines; two of these multiplied still fit into SQLite."""


def number(query: QueryParams, name: str, least: int = 0) -> int | None:
    """A whole number, None when it is not there.

    Raises:
        BadRequest: it is not a number, less than ``least``, or more than the catalog can count.
    """
    given = text(query, name)
    if given is None:
        return None
    try:
        found = int(given)
    except ValueError:
        found = least - 1
    if not least <= found <= MOST:
        raise BadRequest(f"{name} must be a whole number of at least {least}, was {given!r}")
    return found


def moment(query: QueryParams, name: str) -> float | None:
    """A time in ISO 8601 as seconds since 1970, None when it is not there.

    Raises:
        BadRequest: it is not a time.
    """
    given = text(query, name)
    if given is None:
        return None
    # A plus sign that was not escaped arrives as a space.
    found = times.epoch(given)
    found = times.epoch("+".join(given.rsplit(" ", 1))) if found is None else found
    if found is None:
        raise BadRequest(f"{name} must be a time in ISO 8601, was {given!r}")
    return found


def span(query: QueryParams, name: str) -> tuple[float | None, float | None]:
    """The times ``<name>_from`` and ``<name>_to``."""
    return moment(query, f"{name}_from"), moment(query, f"{name}_to")


def choice(query: QueryParams, name: str, choices: tuple[str, ...]) -> str:
    """One of the choices; the first when it is not there.

    Raises:
        BadRequest: it is none of them.
    """
    given = text(query, name) or choices[0]
    if given not in choices:
        raise BadRequest(f"{name} must be one of {', '.join(choices)}, was {given!r}")
    return given
