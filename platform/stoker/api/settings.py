"""What the control port is told when it starts."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

BODY_LIMIT_BYTES = 64 * 1024 * 1024
"""A deploy carries its source code in base64; 64 MiB holds ten times what a function should be."""


class ApiSettings(BaseModel):
    """Settings of the control port.

    Attributes:
        host: the address it listens on; a wildcard address admits any IP literal as ``Host``.
        gateway_url: where the data port answers, ``http://127.0.0.1:8080``; its ``host:port`` is
            what functions are told to be reached at, so it must not change over a function's life.
        allowed_hosts: further names that the ``Host`` header may carry (a reverse proxy's).
        api_keys: keys of this port; empty means that none is asked for (loopback only).
        gateway_key: key of the data port, for the invocation proxy.
        body_limit_bytes: the largest request body.
        version: Stoker's version, shown on the page.
    """

    model_config = ConfigDict(frozen=True)

    host: str = "127.0.0.1"
    gateway_url: str = "http://127.0.0.1:8080"
    allowed_hosts: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = Field(default=(), repr=False)
    gateway_key: str | None = Field(default=None, repr=False)
    body_limit_bytes: int = Field(default=BODY_LIMIT_BYTES, gt=0)
    version: str = ""

    @property
    def secrets(self) -> frozenset[str]:
        """The platform's own keys, which functions are given too: no log shows them."""
        return frozenset(self.api_keys) | ({self.gateway_key} if self.gateway_key else set())

    @property
    def gateway_address(self) -> str:
        """``host:port`` of the data port, without a scheme, as Nuclio's clients want it."""
        return urlsplit(self.gateway_url).netloc

    @property
    def gateway_host(self) -> str:
        """The data port's host alone."""
        return urlsplit(self.gateway_url).hostname or "127.0.0.1"

    @property
    def gateway_port(self) -> int:
        """The data port."""
        return urlsplit(self.gateway_url).port or 80
