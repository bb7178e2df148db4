"""Ports: whether one is free, who has it, and choosing one."""

from __future__ import annotations

import errno
import random
import socket

import psutil

from stoker.nouns.errors import BadRequest, Conflict

_CHOICES = range(20_000, 32_000)
_TRIES = 100
_SHOWN = 120
"""Characters of a command: enough for an interpreter's path, its options and the module."""


def free_port(host: str, port: int, option: str) -> int:
    """``port`` when nobody listens on it, or a free one for 0.

    A chosen one lies below the range that the kernel hands to outgoing connections: between this
    moment and the one in which the process binds it, any of those could take it.

    Raises:
        Conflict: it is taken; the message says by whom.
        BadRequest: the address is not this machine's, or the port needs more rights.
    """
    if port == 0:
        return _choose(host) or free_port(host, random.choice(_CHOICES), option)  # noqa: S311
    try:
        with listening_socket(host, port) as bound:
            return int(bound.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} of {host} is taken by {_who_listens(port)}; "
                f"choose another with {option}"
            ) from error
        raise BadRequest(
            f"cannot listen on {host}, port {port}: {error.strerror or error}"
        ) from error


def _choose(host: str) -> int | None:
    for port in random.sample(_CHOICES, _TRIES):
        try:
            with listening_socket(host, port):
                return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return None
    return None


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket, alone on its port.

    Raises:
        OSError: it cannot be bound.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(1024)  # a bound port that nobody listens on may be bound twice
    except BaseException:
        bound.close()
        raise
    return bound


def _who_listens(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:2] == (port,):
                return _describe(connection.pid)
    except psutil.Error:
        return "a process that is not yours to see"
    return "another process (see: ss -ltnp)"


def _describe(pid: int | None) -> str:
    if pid is None:
        return "another user's process"
    try:
        command = " ".join(psutil.Process(pid).cmdline())
        shown = command if len(command) <= _SHOWN else f"{command[: _SHOWN - 1]}…"
        return f"pid {pid} ({shown})"
    except psutil.Error:
        return f"pid {pid}"
