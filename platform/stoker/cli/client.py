"""Talks to the control and data ports. The standard library's client: httpx alone costs 0.15 s."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stoker.cli.failure import EXIT_USAGE, Failure
from stoker.nouns.home import Home

TIMEOUT_S = 30.0
LONG_S = 1900.0
"""For verbs that wait for a deploy or a wake: longer than the control port itself waits."""


class NotRunning(Failure):
    """There is no platform, and none is said to be anywhere else."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Where a running platform answers. ``gateway_url`` is empty when only STOKER_URL is known."""

    control_url: str
    gateway_url: str = ""

    @classmethod
    def find(cls, home: str | None) -> Platform:
        """By ``--home``, else ``STOKER_URL``, else the default home's endpoints.

        Raises:
            NotRunning: no platform runs there.
            Failure: STOKER_URL, or what the home says, cannot be read.
        """
        url = os.environ.get("STOKER_URL", "")
        if url and not home:
            return cls(control_url=_checked_url(url))
        place = Home.at(home)
        try:
            found = json.loads(place.endpoints.read_text())
            return cls(control_url=found["control_url"], gateway_url=found["gateway_url"])
        except FileNotFoundError:
            raise _not_running(place) from None
        except (OSError, ValueError, KeyError) as exc:
            raise Failure(f"{place.endpoints} cannot be read: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            Failure: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise Failure(f"the platform answered what is not JSON: {self.body[:200]!r}") from exc


class Client:
    """One port's client, by its URL."""

    def __init__(self, url: str, *, key: str = "", user: str = "") -> None:
        self._url = url
        self._parts = urlsplit(url)
        self._headers = {"X-API-Key": key} if key else {}
        self._headers |= {"X-Stoker-User": user} if user else {}
        self.url = url
        self.key = key

    @classmethod
    def control(cls, home: str | None) -> Client:
        """A client of the control port, with ``STOKER_API_KEY`` when it is set."""
        return cls(Platform.find(home).control_url, key=control_key(), user=_user())

    def get(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            Failure: the platform cannot be reached, or refuses.
        """
        return self.send("GET", path).json()

    def send(
        self,
        method: str,
        path: str,
        document: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """Sends a JSON document and reads the reply whole.

        Raises:
            Failure: the platform cannot be reached, or refuses.
        """
        body = None if document is None else json.dumps(document).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        with self.open(method, path, body, sent, timeout_s=timeout_s) as response:
            answer = Answer(response.status, response.headers, response.read())
        if answer.status >= 400:
            raise refused(answer)
        return answer

    def lines(self, path: str, *, may_pause: bool = False) -> Iterator[bytes]:
        """The lines of a streamed reply as they come, with pauses of any length if they may.

        Raises:
            Failure: the platform cannot be reached, refuses, or falls silent.
        """
        with self.open("GET", path, timeout_s=LONG_S, may_pause=may_pause) as response:
            if response.status >= 400:
                raise refused(Answer(response.status, response.headers, response.read()))
            while line := response.readline():
                yield line

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        may_pause: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """Sends, and gives the reply unread, whatever its status.

        Raises:
            Failure: the port cannot be reached, or hangs up.
        """
        https = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=timeout_s)
        begun = False
        try:
            with _sendable():
                connection.connect()
                # Kept in hand: the connection lets go of it when the reply ends with its close.
                stream: socket.socket = connection.sock
                connection.request(method, path, body, {**self._headers, **(headers or {})})
            response = connection.getresponse()
            if may_pause:
                stream.settimeout(None)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            begun = True
            yield response
        except TimeoutError as exc:
            raise Failure(f"{self._url} did not answer within {timeout_s:g} s") from exc
        except (OSError, http.client.HTTPException) as exc:
            if not begun:
                raise Failure(
                    f"{self._url} cannot be reached: {exc or type(exc).__name__}",
                    hint="is the platform running? try: stoker status",
                ) from exc
            if isinstance(exc, BrokenPipeError):
                raise  # Of where the answer goes to: it is only read here.
            raise Failure(f"the answer of {self._url} was cut off: {exc}") from exc
        finally:
            connection.close()


@contextmanager
def _sendable() -> Iterator[None]:
    """What no request can hold, such as a name of a header with a space in it, is wrong usage."""
    try:
        yield
    except (http.client.InvalidURL, ValueError) as exc:
        raise Failure(f"no such request can be sent: {exc}", exit_code=EXIT_USAGE) from exc


def control_key() -> str:
    """The key that clients of the control port bring; empty when none is set."""
    return os.environ.get("STOKER_API_KEY", "").strip()


def data_key() -> str:
    """The key that clients of the data port bring; empty when none is set."""
    return os.environ.get("STOKER_DATA_KEY", "").strip() or control_key()


def refused(answer: Answer) -> Failure:
    """The platform's own words for why not, in either envelope."""
    try:
        error = json.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError):
        error = answer.body.decode(errors="replace").strip() or f"status {answer.status}"
    message = error.get("message", "") if isinstance(error, dict) else str(error)
    hint = "set STOKER_API_KEY" if answer.status == 401 else ""
    return Failure(message, hint=hint)


def _user() -> str:
    """Who runs the command, for histories; empty where this machine does not know.

    What is no ASCII would be no header.
    """
    try:
        return getpass.getuser().encode("ascii", "ignore").decode()
    except (KeyError, OSError):
        return ""


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, half an address
        right = False
    if not right:
        raise Failure(f'STOKER_URL must be like "http://127.0.0.1:8070", was {url!r}')
    return url


def _not_running(home: Home) -> NotRunning:
    return NotRunning(
        f"no platform runs in the home {home.root}",
        hint="start one with: stoker up --detach (or name its home with --home, or set STOKER_URL)",
    )
