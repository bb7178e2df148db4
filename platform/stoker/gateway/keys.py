"""Who may use the data port."""

from __future__ import annotations

import hmac

from stoker.nouns.errors import Unauthorized


class Keys:
    """The keys that clients may bring, by ``Authorization: Bearer`` or ``X-API-Key``."""

    __slots__ = ("_keys", "required")

    def __init__(self, keys: frozenset[str]) -> None:
        self._keys = [key.encode() for key in keys]
        self.required = bool(keys)

    def check(self, headers: dict[str, str]) -> None:
        """Takes the key out of ``headers``: functions never see it.

        Raises:
            Unauthorized: there is none, or a wrong one.
        """
        offered = headers.pop("x-api-key", None)
        if offered is None:
            scheme, _, offered = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized(
                    "a key is needed: Authorization: Bearer <key>, or X-API-Key: <key>"
                )
            del headers["authorization"]
        if not self._knows(offered.strip().encode()):
            raise Unauthorized("the key is wrong")

    def _knows(self, offered: bytes) -> bool:
        # Every key is compared in constant time and none is skipped, so that timing tells nothing.
        return sum(hmac.compare_digest(key, offered) for key in self._keys) > 0
