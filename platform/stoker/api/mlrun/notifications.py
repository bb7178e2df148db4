"""Notifications that MLRun leaves to its server: those of workflows, by webhook and Slack.

Those of a run are sent by the client that executes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import httpx

from stoker.store.catalog import Catalog
from stoker.store.catalog.document import Document, looked_up, text_at
from stoker.store.catalog.run_search import RunSearch

log = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0
"""How long one receiver may take."""
PATIENCE_S = 2.0
"""How long a request waits for its notifications: clients ask about a task every 3 s only."""
_SLACK_SECRET = "SLACK_WEBHOOK"  # noqa: S105 - the name of the secret


class Undelivered(Exception):
    """A notification cannot be sent; the message says why."""


class Notifier:
    """Sends notifications while nobody waits, and notes in their task how it went."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._sending: set[asyncio.Task[None]] = set()
        """A task that nobody refers to may be collected before it is done."""

    async def send(
        self, project: str, workflow: str, notifications: list[Any], task: Document
    ) -> Document:
        """Sends them all; the task as it stands after `PATIENCE_S` at most.

        Args:
            project: whose secrets may be used.
            workflow: the runs with this label are told along; empty for none.
            notifications: as MLRun's client sends them.
            task: the background task that stands for it.
        """
        name = task["metadata"]["name"]
        sending = asyncio.create_task(self._send_all(project, workflow, notifications, name))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        await asyncio.wait({sending}, timeout=PATIENCE_S)
        return await self._catalog.tasks.find(project, name)

    async def _send_all(
        self, project: str, workflow: str, notifications: list[Any], name: str
    ) -> None:
        errors = []
        secrets = await self._catalog.secrets.environment(project)
        search = RunSearch(project=project, labels=(f"workflow={workflow}",))
        runs = await self._catalog.runs.list_all(search) if workflow else []
        async with httpx.AsyncClient(timeout=SEND_TIMEOUT_S) as client:
            for notification in notifications:
                try:
                    await _send(client, notification, runs, secrets)
                except (Undelivered, httpx.HTTPError, httpx.InvalidURL) as error:
                    errors.append(f"{text_at(notification, 'name') or 'notification'}: {error}")
        if errors:
            log.warning("notifications of project %s: %s", project, "; ".join(errors))
        await self._catalog.tasks.end(name, "; ".join(errors) or None)


async def _send(
    client: httpx.AsyncClient, notification: Any, runs: list[Document], secrets: Mapping[str, str]
) -> None:
    kind = text_at(notification, "kind")
    params = {
        **(looked_up(notification, "params") or {}),
        **(looked_up(notification, "secret_params") or {}),
    }
    if kind == "webhook":
        request = _webhook(notification, params, runs)
    elif kind == "slack":
        request = _slack(notification, params.get("webhook") or secrets.get(_SLACK_SECRET))
    else:
        raise Undelivered(f"Stoker sends webhook and slack notifications only, not {kind!r}")
    reply = await client.send(request)
    if reply.is_error:
        # The path of a webhook is its password: only the host may be named.
        raise Undelivered(f"{request.url.host} answered {reply.status_code}")


def _webhook(
    notification: Document, params: Mapping[str, Any], runs: list[Document]
) -> httpx.Request:
    body = params.get("override_body") or {
        "message": text_at(notification, "message"),
        "severity": text_at(notification, "severity"),
        "runs": runs,
    }
    method = str(params.get("method") or "post").upper()
    return httpx.Request(method, _url(params.get("url")), headers=params.get("headers"), json=body)


def _slack(notification: Document, url: Any) -> httpx.Request:
    text = f"[{text_at(notification, 'severity') or 'info'}] {text_at(notification, 'message')}"
    return httpx.Request("POST", _url(url), json={"text": text})


def _url(given: Any) -> str:
    if not isinstance(given, str) or not given.startswith(("http://", "https://")):
        raise Undelivered("its params name no http URL to send it to")
    return given
