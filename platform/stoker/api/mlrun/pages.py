"""MLRun's pages of a listing: by number and size, and on from a token.

A token holds the listing's conditions and where it stands: nothing is kept for it here, so it
neither expires nor dies with the platform.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import QueryParams

from stoker.api.mlrun.asked import number, text
from stoker.nouns.errors import BadRequest
from stoker.store.catalog.conditions import ALL, Page

DEFAULT_SIZE = 200
"""MLRun's own default page size."""


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page of which listing.

    Attributes:
        query: the listing's conditions: the request's own, or those of its token.
        number: which page, from 1 on; None when all is asked for at once.
        size: entries a page; None likewise.
    """

    query: QueryParams
    number: int | None = None
    size: int | None = None

    @classmethod
    def of(cls, query: QueryParams) -> Paging:
        """What a request asks for.

        Raises:
            BadRequest: a number is wrong, or the token is not one of ours.
        """
        page, size = number(query, "page", 1), number(query, "page-size", 1)
        token = text(query, "page-token")
        if token:
            earlier = _opened(token)
            return cls(earlier.query, page or earlier.number, earlier.size)
        if page is None and size is None:
            return cls(query)
        return cls(query, page or 1, size or DEFAULT_SIZE)

    @property
    def rows(self) -> Page:
        """What to read: one more than the page holds, which tells whether another follows."""
        if self.size is None:
            return ALL
        return Page(self.size + 1, ((self.number or 1) - 1) * self.size)

    def reply(self, name: str, found: list[Any]) -> dict[str, Any]:
        """The reply's body, for the rows that were read."""
        shown = found[: self.size]
        token = self._next() if len(shown) < len(found) else None
        block = {"page": self.number, "page-size": self.size, "page-token": token}
        return {name: shown, "pagination": block}

    def _next(self) -> str:
        packed = orjson.dumps([self.query.multi_items(), (self.number or 1) + 1, self.size])
        return base64.urlsafe_b64encode(packed).decode()


def _opened(token: str) -> Paging:
    try:
        conditions, page, size = orjson.loads(base64.urlsafe_b64decode(token))
        query = QueryParams([(str(name), str(value)) for name, value in conditions])
        page, size = int(page), int(size)
    except (ValueError, TypeError, binascii.Error) as exc:
        raise BadRequest(f"page-token must be one that a listing gave, was {token!r}") from exc
    if page < 1 or size < 1:
        raise BadRequest(f"page-token must be one that a listing gave, was {token!r}")
    return Paging(query, page, size)
