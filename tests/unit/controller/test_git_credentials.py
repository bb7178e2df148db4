"""Credentials inside a repository's URL: sent to its host, shown to nobody on this machine."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from stoker.controller.git_source import fetch_git


@pytest.mark.parametrize(
    ("url", "given", "login"),
    [
        ("https://me:hushhush@h/r.git", {}, "me:hushhush"),
        ("https://hushhush@h/r.git", {}, "oauth2:hushhush"),
        ("https://hushhush@h/r.git", {"password": "hushother"}, "hushhush:hushother"),
    ],
)
async def test_credentials_in_the_url_are_sent_and_not_in_the_arguments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    given: dict[str, str],
    login: str,
) -> None:
    """A git that keeps what it was given stands in for the real one."""
    folder = tmp_path / "out"
    folder.mkdir()
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/args\nenv > {tmp_path}/env\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    lines: list[str] = []
    await fetch_git(url, {"branch": "main", **given}, folder, lines.append)
    assert (
        "fetch --quiet --depth=1 --no-tags https://h/r.git main" in (tmp_path / "args").read_text()
    )
    assert "hush" not in (tmp_path / "args").read_text() + "".join(lines)
    sent = base64.b64encode(login.encode()).decode()
    assert f"=Authorization: Basic {sent}\n" in (tmp_path / "env").read_text()
