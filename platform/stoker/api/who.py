"""Who asked: as far as a client says, and as far as its key shows."""

from __future__ import annotations

import hashlib

from starlette.requests import Request

from stoker.api.guard import presented_key

USER_HEADER = "x-stoker-user"
LONGEST = 80


def who_of(request: Request, said: str = "") -> str:
    """A few words for histories and logs.

    What a client says of itself is taken for what it is, a word; the beginning of its key's digest
    tells two of them apart and gives neither away.

    Args:
        request: of the client.
        said: the name in the request's body; the header ``X-Stoker-User`` where it has none.
    """
    named = _printable(said or request.headers.get(USER_HEADER, ""))
    key = presented_key(request.headers)
    shown = f"key {hashlib.sha256(key.encode()).hexdigest()[:8]}" if key else ""
    if named or shown:
        return f"{named} ({shown})" if named and shown else named or shown
    program = _printable(request.headers.get("user-agent", "")).partition(" ")[0]
    return f"a client ({program})" if program else "a client"


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()[:LONGEST]
