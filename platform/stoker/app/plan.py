"""What is to run: one plan per process, in the order of their start."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from stoker.app.redis_server import redis_binary, redis_command
from stoker.app.settings import Endpoints, ProcessSettings, UpSettings
from stoker.nouns.home import Home
from stoker.nouns.launch import ZygoteKind

# -P: the working directory must not be importable, or the home's folders would shadow packages.
PYTHON = (sys.executable, "-P", "-m")


class Role(StrEnum):
    """What a process is; the order is the order of the end."""

    GATEWAY = "gateway"
    CONTROLLER = "controller"
    ZYGOTE = "zygote"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Plan:
    """One process to keep running. ``settings`` is written to ``settings_file`` before a start."""

    name: str
    role: Role
    command: tuple[str, ...]
    settings: ProcessSettings | None = None
    settings_file: Path | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of everything it is told; a process with another one is not adopted."""
        told = self.settings.model_dump(mode="json") if self.settings else None
        return hashlib.sha256(json.dumps([self.command, told], sort_keys=True).encode()).hexdigest()


def role_of(name: str) -> Role:
    """The role in a process's name.

    >>> role_of("gateway-0"), role_of("redis")
    (<Role.GATEWAY: 'gateway'>, <Role.REDIS: 'redis'>)
    """
    return Role(name.partition("-")[0])


def redis_plan(home: Home) -> Plan:
    """The embedded Redis."""
    return Plan("redis", Role.REDIS, redis_command(home, redis_binary()))


def installed_zygotes() -> tuple[ZygoteKind, ...]:
    """The kinds whose packages can be imported here."""
    wanted = {ZygoteKind.TORCH: "torch", ZygoteKind.MLRUN: "mlrun"}
    return (
        ZygoteKind.PLAIN,
        *(kind for kind, package in wanted.items() if importlib.util.find_spec(package)),
    )


def zygote_plan(home: Home, kind: ZygoteKind) -> Plan:
    """One zygote."""
    command = (*PYTHON, "stoker.worker.zygote", "--kind", kind.value, "--home", str(home.root))
    return Plan(f"zygote-{kind.value}", Role.ZYGOTE, command)


def controller_plan(
    home: Home, settings: UpSettings, endpoints: Endpoints, kinds: tuple[ZygoteKind, ...]
) -> Plan:
    """The controller, with the control port."""
    told = _told(settings, endpoints, "controller", endpoints.control_url)
    return _python_plan(
        home,
        Role.CONTROLLER,
        told.model_copy(
            update={
                "devices": settings.devices,
                "zygotes": kinds,
                "control_keys": settings.control_keys,
                "data_keys": settings.data_keys,
            }
        ),
    )


def gateway_plan(home: Home, settings: UpSettings, endpoints: Endpoints, index: int) -> Plan:
    """One of the gateways; all share the data port."""
    told = _told(settings, endpoints, f"gateway-{index}", endpoints.gateway_url)
    return _python_plan(
        home, Role.GATEWAY, told.model_copy(update={"data_keys": settings.data_keys})
    )


def _told(settings: UpSettings, endpoints: Endpoints, name: str, url: str) -> ProcessSettings:
    return ProcessSettings(
        name=name,
        home=settings.home,
        home_id=endpoints.home_id,
        redis_url=endpoints.redis_url,
        host=settings.host,
        port=urlsplit(url).port or 0,
        control_url=endpoints.control_url,
        gateway_url=endpoints.gateway_url,
        log_level=settings.log_level,
        drain_s=settings.drain_s,
    )


def _python_plan(home: Home, role: Role, told: ProcessSettings) -> Plan:
    path = home.run / f"{told.name}.json"
    command = (*PYTHON, f"stoker.app.{role.value}_process", str(path))
    return Plan(told.name, role, command, told, path)
