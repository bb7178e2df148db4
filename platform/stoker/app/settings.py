"""The settings of ``stoker up``, and what it hands to its children."""

from __future__ import annotations

import ipaddress
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stoker.app.processes import ProcessRecord
from stoker.nouns.errors import BadRequest
from stoker.nouns.home import Home
from stoker.nouns.launch import ZygoteKind


class UpSettings(BaseModel):
    """What ``stoker up`` is told.

    Attributes:
        home: folder of everything that is kept; default ``STOKER_HOME``, else ``~/.stoker``.
        host: address of both ports. Anything but loopback needs keys, because the control port
            runs code for whoever reaches it.
        port: control port; 0 picks a free one.
        gateway_port: data port; 0 picks a free one.
        gateways: gateway processes that share the data port; one keeps a core busy.
        redis: URL of a Redis; None starts one inside the home.
        devices: ``auto``, ``cpu`` or ``sim:<count>x<size>``.
        control_keys: keys of the control port; empty asks for none.
        data_keys: keys of the data port; empty asks for none.
        log_level: of the platform's own processes.
        zygotes: kinds to keep; None is every kind whose packages can be imported here. A kind that
            is missing costs its functions a slower start, and spares its memory.
        drain_s: seconds that accepted work may take to finish when the platform stops.
        owner: the process, a notebook's kernel, with whose end the platform stops; None is nobody.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: str = Field(default_factory=lambda: str(Home.at().root))
    host: str = "127.0.0.1"
    port: int = Field(default=8070, ge=0, le=65535)
    gateway_port: int = Field(default=8080, ge=0, le=65535)
    gateways: int = Field(default=1, ge=1, le=64)
    redis: str | None = None
    devices: str = "auto"
    control_keys: tuple[str, ...] = Field(default=(), repr=False)
    data_keys: tuple[str, ...] = Field(default=(), repr=False)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    zygotes: tuple[ZygoteKind, ...] | None = None
    drain_s: float = Field(default=10.0, ge=0)
    owner: ProcessRecord | None = None

    @model_validator(mode="after")
    def _strangers_need_a_key(self) -> Self:
        if not is_loopback(self.host) and not (self.control_keys and self.data_keys):
            raise ValueError(
                f"--host must be a loopback address unless both ports have an API key "
                f"(STOKER_API_KEY or --api-key-file), was {self.host!r}"
            )
        return self

    @field_validator("control_keys", "data_keys")
    @classmethod
    def _no_key_is_empty(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        # Whoever brings none would bring it.
        if not all(keys):
            raise ValueError("a key must not be empty")
        return keys

    @field_validator("devices")
    @classmethod
    def _devices_can_be_read(cls, devices: str) -> str:
        # Here rather than in the controller, which would only be seen to end again and again.
        from stoker.controller.devices import check_spec

        try:
            check_spec(devices)
        except BadRequest as exc:
            raise ValueError(exc.message) from exc
        return devices

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.port == self.gateway_port and self.port != 0:
            raise ValueError(f"--port and --gateway-port must differ, both were {self.port}")
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on ``host``.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost")
    (True, True, True)
    >>> is_loopback("0.0.0.0"), is_loopback("example.org")
    (False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(host: str, port: int) -> str:
    """A URL by which this machine reaches what listens on ``host`` and ``port``.

    >>> url_of("0.0.0.0", 8070), url_of("::", 80)
    ('http://127.0.0.1:8070', 'http://[::1]:80')
    """
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


class ProcessSettings(BaseModel):
    """What a child process reads from a file of mode 0600; keys never stand in ``argv``.

    Attributes:
        port: the port this process listens on.
        zygotes: kinds that run.
        control_keys, data_keys: the keys that this process needs to know.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    home: str
    home_id: str
    redis_url: str
    host: str
    port: int
    control_url: str
    gateway_url: str
    devices: str = "auto"
    zygotes: tuple[ZygoteKind, ...] = (ZygoteKind.PLAIN,)
    control_keys: tuple[str, ...] = Field(default=(), repr=False)
    data_keys: tuple[str, ...] = Field(default=(), repr=False)
    log_level: str = "info"
    drain_s: float = 10.0


class Endpoints(BaseModel):
    """Where the running platform answers (``home.endpoints``).

    Attributes:
        devices_found: what ``devices`` turned out to be, for people; empty where it says so itself.
        pid: of the supervisor.
        owner: the process with whose end the platform stops, if there is one.
    """

    model_config = ConfigDict(frozen=True)

    home_id: str
    control_url: str
    gateway_url: str
    redis_url: str
    devices: str
    devices_found: str = ""
    pid: int
    owner: ProcessRecord | None = None

    @property
    def devices_told(self) -> str:
        """The devices for people."""
        return f"{self.devices} ({self.devices_found})" if self.devices_found else self.devices
