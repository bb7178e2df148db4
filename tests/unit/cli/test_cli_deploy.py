"""What ``stoker deploy`` says of how a deploy ended: once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from stoker.cli import deploy as deploy_module
from stoker.cli.client import Client
from stoker.cli.main import app
from stoker.cli.pack import Package

WHY = "the model cannot be prepared: STOKER_MODEL: there is no folder '/nowhere'"


def deployed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str, spec: Any = None, **status: Any
) -> Result:
    """A deploy that ends in this status, without a platform."""
    (folder / "main.py").write_text("def handler(context, event): ...\n")
    (folder / "function.yaml").write_text("metadata: {name: fn}\nspec: {handler: 'main:handler'}\n")
    ended = {
        "status": {"message": "", "logs": [], "externalInvocationUrls": ["h:1/fn"], **status},
        "spec": spec or {},
        "settled": True,
    }

    def lines(_client: Client, _path: str) -> Iterator[str]:
        yield json.dumps(ended)

    monkeypatch.setattr(Client, "lines", lines)
    monkeypatch.setattr(Package, "send", lambda *_: "3")
    monkeypatch.setattr(deploy_module, "_ensure_project", lambda *_: None)
    return CliRunner().invoke(
        app, ["deploy", str(folder), *options], env={"STOKER_URL": "http://h:1"}
    )


def failed(why: str, logged: str) -> dict[str, Any]:
    entries = [{"level": "info", "message": "read"}, {"level": "error", "message": logged}]
    return {"state": "error", "message": why, "logs": entries}


def said(done: Result) -> str:
    """On the terminal, and what `main` says of the failure."""
    failure = getattr(done.exception, "message", "")
    return f"{done.output}{failure}"


def test_the_reason_of_a_failure_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = deployed(tmp_path, monkeypatch, **failed(WHY, WHY), servingRevision=2)
    assert said(done).count("no folder '/nowhere'") == 1
    assert said(done).endswith("fn revision 3 is error; revision 2 goes on serving")


def test_what_the_log_does_not_show_is_told_with_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--json`` shows no log; and a traceback is told in a line of its own."""
    quiet = deployed(tmp_path, monkeypatch, "--json", **failed(WHY, WHY))
    assert said(quiet).endswith(f"fn revision 3 is error\n{WHY}")
    trace = "worker fn-1.0: Traceback (most recent call last):\n  File x\nKeyError: 'x'"
    summed = "worker fn-1.0: KeyError: 'x'"
    assert said(deployed(tmp_path, monkeypatch, **failed(summed, trace))).endswith(f"\n{summed}")


def test_a_disabled_function_is_not_called_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = deployed(tmp_path, monkeypatch, state="scaledToZero", spec={"disable": True})
    assert done.exit_code == 0
    assert "fn revision 3 is deployed and disabled" in done.stdout
    assert "ready" not in done.stdout
    done = deployed(tmp_path, monkeypatch, state="scaledToZero")
    assert "fn revision 3 ready in" in done.stdout
