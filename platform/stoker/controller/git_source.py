"""One commit of a git repository, without its history. A token is never shown and never in argv."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stoker.controller.subprocesses import run_streaming
from stoker.nouns.errors import BadRequest
from stoker.nouns.secrecy import mask_text, url_for_people
from stoker.nouns.source_url import SourceUrl, basic_authorization, read_source_url

LONGEST_S = 600.0
_PROTOCOLS = "file:git:http:https:ssh"
"""Others, as ``ext::``, would run commands."""
_COUNT = "GIT_CONFIG_COUNT"
_ELSEWHERE = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CEILING_DIRECTORIES"})
"""Variables by which the platform, started inside a repository, would work on that one."""
_SLOW = {"http.lowSpeedLimit": "1000", "http.lowSpeedTime": "60"}


async def fetch_git(
    url: str, attributes: Mapping[str, Any], folder: Path, tell: Callable[[str], None]
) -> None:
    """Puts the files of a repository's branch, tag or commit into ``folder``.

    Args:
        url: the repository; a name and a password in it are sent as those of ``attributes`` are,
            which win.
        attributes: Nuclio's ``codeEntryAttributes``: ``branch`` or ``reference`` (default: the
            repository's own), ``username`` and ``password``.
        folder: where to; it exists and is empty.
        tell: gets what git says.

    Raises:
        BadRequest: git is not installed, the repository or the branch is not there, or it takes
            longer than `LONGEST_S`.
    """
    if shutil.which("git") is None:
        raise BadRequest("a git source needs the program git, which is not installed here")
    reference = str(attributes.get("reference") or attributes.get("branch") or "HEAD")
    if url.startswith("-") or reference.startswith("-"):
        shown = url_for_people(url)
        raise BadRequest(f"a repository and a branch must not begin with '-': {shown} {reference}")
    source = read_source_url(url)
    url = source.bare  # everybody on this machine may read the arguments of a process
    credentials = _credentials(attributes, source)
    secrets = [
        str(attributes.get("password") or ""),
        source.login[1],
        credentials.rpartition(" ")[2],
    ]
    step = _Step(folder, _environment(url, credentials), tell, secrets)
    shown = url_for_people(url)
    tell(f"git: fetching {reference} of {shown}")
    try:
        async with asyncio.timeout(LONGEST_S):
            await step.run(["init", "--quiet", "."], "git init failed")
            fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", url, reference]
            await step.run(fetch, f"{reference} of {shown} cannot be fetched")
            await step.run(["checkout", "--quiet", "FETCH_HEAD"], "git checkout failed")
    except TimeoutError as exc:
        raise BadRequest(f"{shown} was not fetched within {LONGEST_S:g} s") from exc
    await asyncio.to_thread(shutil.rmtree, folder / ".git", ignore_errors=True)


class _Step:
    """Runs git in a folder and tells what it says, secrets masked."""

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        tell: Callable[[str], None],
        secrets: list[str],
    ) -> None:
        self._folder = folder
        self._env = env
        self._tell = tell
        self._secrets = secrets

    async def run(self, arguments: list[str], failure: str) -> None:
        last = ""

        def keep(line: str) -> None:
            nonlocal last
            last = mask_text(line, self._secrets)
            self._tell(f"git: {last}")

        command = ["git", "-c", "protocol.ext.allow=never", *arguments]
        status = await run_streaming(command, env=self._env, cwd=self._folder, tell=keep)
        if status:
            raise BadRequest(f"{failure} (exit code {status}): {last}")


def _environment(url: str, credentials: str) -> dict[str, str]:
    """Git's, with the credentials as configuration for this host alone."""
    config = dict(_SLOW)
    parts = urlsplit(url)
    if credentials and parts.scheme in ("http", "https"):
        host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        config[f"http.{host}.extraHeader"] = f"Authorization: {credentials}"
    first = int(os.environ.get(_COUNT) or 0)
    variables = {_COUNT: str(first + len(config))}
    for index, (key, value) in enumerate(config.items(), first):
        variables |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    return {
        **{name: value for name, value in os.environ.items() if name not in _ELSEWHERE},
        **variables,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
        "LC_ALL": "C",
    }


def _credentials(attributes: Mapping[str, Any], source: SourceUrl) -> str:
    """The value of the header ``Authorization``; empty when there is none to send."""
    user = str(attributes.get("username") or "")
    password = str(attributes.get("password") or "")
    if password:
        return basic_authorization(user or source.user, password)
    headers = attributes.get("headers")
    given = headers if isinstance(headers, Mapping) else {}
    if given.get("Authorization"):
        return str(given["Authorization"])
    user, password = source.login
    return basic_authorization(user, password) if password else ""
