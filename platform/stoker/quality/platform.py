"""A running platform, over its two ports: what a quality run asks of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote

import httpx

from stoker.nouns.errors import StokerError

_DEPLOY_S = 1900.0
_ASK_S = 120.0
_TIMING = re.compile(r"handler;dur=([\d.]+)")


class Unreachable(StokerError):
    """The platform does not answer."""

    code = "platform_unreachable"
    status = 503


class Refused(StokerError):
    """The platform, or a function on it, refuses; the message is its own."""

    code = "refused"
    status = 502


class Platform:
    """The control and the data port.

    Args:
        control_url: of the control port.
        gateway_url: of the data port.
    """

    def __init__(self, control_url: str, gateway_url: str) -> None:
        key = os.environ.get("STOKER_API_KEY", "").strip()
        data_key = os.environ.get("STOKER_DATA_KEY", "").strip() or key
        self._control = _client(control_url, key)
        self._data = _client(gateway_url, data_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._data.close()

    def functions(self) -> dict[str, dict[str, Any]]:
        """Every function, by name."""
        found: dict[str, dict[str, Any]] = self._json("GET", "/api/functions")
        return found

    def function(self, name: str) -> dict[str, Any] | None:
        """One function; None when there is none."""
        answer = self._send("GET", f"/api/functions/{quote(name)}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = _checked(answer).json()
        return found

    def ensure_project(self, name: str) -> None:
        """Makes the project, if there is none."""
        if name not in self._json("GET", "/api/projects"):
            self._json("POST", "/api/projects", {"metadata": {"name": name}, "spec": {}})

    def exported(self, name: str) -> dict[str, Any]:
        """A function's document, as it can be deployed again; its secrets are masked."""
        found: dict[str, Any] = self._json("GET", f"/api/functions/{quote(name)}?export=true")
        return found

    def deploy(self, document: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
        """Deploys and waits until it has settled.

        Returns:
            The function, whatever became of it; ``deployed`` is the number of the new revision.

        Raises:
            Refused: the platform takes the document for wrong, or it was deleted meanwhile.
        """
        name = document["metadata"]["name"]
        answer = _checked(self._send("PUT", f"/api/functions/{quote(name)}", document))
        revision = answer.headers.get("X-Stoker-Revision", "0")
        path = f"/api/stoker/functions/{quote(name)}/deployment?revision={revision}"
        shown = 0
        for line in self._lines(path):
            function: dict[str, Any] = json.loads(line)
            if function.get("deleted"):
                raise Refused(f"{name} was deleted while it was being deployed")
            logs = function["status"]["logs"]
            for entry in logs[shown:]:
                tell(str(entry["message"]))
            shown = len(logs)
            if function["settled"]:
                return function | {"deployed": int(revision)}
        raise Unreachable(f"the platform stopped answering while {name} was being deployed")

    def delete(self, name: str) -> None:
        """Deletes a function; none there is none the worse."""
        answer = self._send("DELETE", f"/api/functions/{quote(name)}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            _checked(answer)

    def replicas(self, name: str) -> list[dict[str, Any]]:
        """The function's replicas with their workers and their memory."""
        found = self._json("GET", "/api/stoker/ps")["replicas"]
        return [one for one in found if one["function"] == name]

    def devices(self) -> list[str]:
        """``<kind> <capability> <name>`` of each device, sorted; empty for a CPU."""
        found = self._json("GET", "/api/stoker/top")["devices"]
        return sorted(f"{one['kind']} {one['capability']} {one['name']}" for one in found)

    def rollout(self, name: str) -> dict[str, Any] | None:
        """The function's canary; None where none runs, or the platform knows none."""
        answer = self._send("GET", f"/api/rollouts/{quote(name)}")
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
            return None
        found: dict[str, Any] = _checked(answer).json()
        return found

    def ask(self, name: str, path: str, body: Any) -> tuple[Any, float | None]:
        """One request through the gateway.

        Returns:
            The answer's JSON, and what the handler took, in milliseconds, where it is told.

        Raises:
            Refused: it is answered with an error, or with what is not JSON.
        """
        url = f"/{quote(name)}/{path.lstrip('/')}"
        with _ours():
            answer = self._data.post(url, json=body, timeout=_ASK_S)
        if answer.is_error:
            raise Refused(f"{name} answered {answer.status_code}: {_words(answer)}")
        try:
            told = answer.json()
        except ValueError:
            raise Refused(f"{name} answered what is not JSON: {answer.text[:120]!r}") from None
        timing = _TIMING.search(answer.headers.get("Server-Timing", ""))
        return told, float(timing[1]) if timing else None

    def _send(self, method: str, path: str, document: Any = None) -> httpx.Response:
        with _ours():
            return self._control.request(method, path, json=document)

    def _json(self, method: str, path: str, document: Any = None) -> Any:
        answer = _checked(self._send(method, path, document))
        return answer.json() if answer.content else None

    def _lines(self, path: str) -> Iterator[str]:
        with _ours(), self._control.stream("GET", path, timeout=_DEPLOY_S) as answer:
            if answer.is_error:
                answer.read()
                _checked(answer)
            yield from answer.iter_lines()


def _client(url: str, key: str) -> httpx.Client:
    # By this name it stands in the history of rollouts.
    headers = {"X-Stoker-User": "stoker ci"} | ({"X-API-Key": key} if key else {})
    checked = url.startswith("https")  # without it, reading the certificates takes 0.1 s in vain
    # Loopback: a proxy of the environment has no business in between.
    return httpx.Client(
        base_url=url, headers=headers, timeout=60.0, trust_env=False, verify=checked
    )


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as exc:
        raise Unreachable(f"the platform cannot be reached: {exc or type(exc).__name__}") from exc


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise Refused(_words(answer))
    return answer


def _words(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:300] or f"status {answer.status_code}"
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
