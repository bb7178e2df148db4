"""What can be set about a gateway."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GatewaySettings(BaseModel):
    """One gateway process. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address of the data port; loopback, because whoever reaches it runs functions."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Data port; 0 takes any free one."""
    gateway: str = Field(default="g0", min_length=1)
    """Id under which this process reports demand and metrics; unique in a home."""
    api_keys: frozenset[str] = frozenset()
    """Keys of which clients must bring one; empty asks for none."""
    max_header_bytes: int = Field(default=64 * 1024, ge=256)
    """All header lines of a request together; what large cookies and tokens need, no more."""
    max_headers: int = Field(default=100, ge=1)
    """Header lines of a request."""
    max_request_line: int = Field(default=8 * 1024, ge=64)
    """The request target; browsers and proxies stop at 8 KiB too."""
    header_timeout_s: float = Field(default=10.0, gt=0)
    """From the first byte of a request (or the connection) to the end of its headers."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """For a body, plus its bytes at ``min_body_rate``: a trickle must not hold memory for ever."""
    min_body_rate: int = Field(default=16 * 1024, ge=1)
    """Bytes per second that an upload must keep up after ``body_timeout_s``."""
    idle_timeout_s: float = Field(default=75.0, gt=0)
    """A kept connection without a request; above the usual 60 s of load balancers."""
    write_timeout_s: float = Field(default=60.0, gt=0)
    """A client that reads nothing of its answer; it holds a worker's permit while it stalls."""
    linger_s: float = Field(default=2.0, gt=0)
    """How long input is dropped after an early refusal, so that the client can read it first."""
    grace_s: float = Field(default=30.0, ge=0)
    """For requests in flight when the gateway is stopped."""
    demand_every_s: float = Field(default=0.2, gt=0)
    """Between reports of demand while it changes: how fast the autoscaler can notice."""
    report_every_s: float = Field(default=1.0, gt=0)
    """Between reports when nothing changes; the store forgets a silent gateway after 5 s."""
    resync_every_s: float = Field(default=30.0, gt=0)
    """Between whole readings of the store, in case an announcement was lost unnoticed."""
    invocation_runners: int = Field(default=4, ge=0)
    """Durable invocations that this gateway runs at once."""
    invocation_takeover_s: float = Field(default=60.0, gt=0)
    """After which an invocation that a vanished gateway had claimed is run again."""
