"""The verbs as a user types them, against a real platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, platform_of_its_own

pytestmark = pytest.mark.e2e

Run = Callable[..., subprocess.CompletedProcess[str]]

YAML = """\
metadata:
  name: hello
spec:
  handler: main:handler
  runtime: python:3.11
  minReplicas: 0
  env:
  - {name: API_TOKEN, value: s3cr3t-value}
"""
CODE = """\
import os
def init_context(context):
    context.logger.info_with("initialised", token=os.environ["API_TOKEN"])
def handler(context, event):
    context.logger.info("called")
    if event.path == "/fail":
        return context.Response(body="no", status_code=418)
    return {"got": event.body.decode() if isinstance(event.body, bytes) else event.body}
"""
BROKEN = """\
def init_context(context):
    raise RuntimeError("no model in s3cr3t-value")
def handler(context, event):
    return 1
"""


def stoker(*words: str, home: Path | None = None, text: str = "", **env: str) -> Any:
    """Runs the command line in a process of its own."""
    command = [sys.executable, "-m", "stoker.cli.main", *words]
    if home is not None:
        command += ["--home", str(home)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STOKER_")}
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=120, env=clean | env
    )


@pytest.fixture
def run(running: Any) -> Run:
    def call(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        done = stoker(*words, home=running.home.root, **options)
        assert 'Traceback (most recent call last):\n  File "<frozen' not in done.stderr
        return done

    return call


@pytest.fixture(scope="module")
def empty() -> Iterator[Platform]:
    """A running platform where nothing is deployed, for the tests that deploy nothing."""
    with platform_of_its_own() as platform:
        platform.up()
        yield platform


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "function.yaml").write_text(YAML)
    (tmp_path / "main.py").write_text(CODE)
    return tmp_path


def test_a_functions_whole_life_by_the_command_line(run: Run, folder: Path) -> None:
    done = run("deploy", str(folder))
    assert done.returncode == 0, done.stderr
    assert "hello revision 1 ready in" in done.stdout
    assert "http://127.0.0.1:" in done.stdout

    done = run("invoke", "hello", "-d", '{"a": 1}')
    assert (done.returncode, json.loads(done.stdout)) == (0, {"got": {"a": 1}})
    done = run("invoke", "hello", "-d", "-", text="from stdin")
    assert json.loads(done.stdout) == {"got": "from stdin"}
    done = run("invoke", "hello", "--path", "/fail", "-i")
    assert done.returncode == 1
    assert done.stdout.startswith("HTTP/1.1 418")

    (row,) = json.loads(run("ls", "--json").stdout)
    assert (row["name"], row["state"], row["replicas"]["ready"]) == ("hello", "ready", 1)
    assert "hello" in run("ls").stdout
    (replica,) = json.loads(run("ps", "--json").stdout)
    assert replica["workers"][0]["rssBytes"] > 1_000_000
    assert str(replica["workers"][0]["pid"]) in run("ps").stdout

    text = run("logs", "hello").stdout
    assert "initialised" in text
    assert "called" in text
    assert "s3cr3t-value" not in text
    assert len(run("logs", "hello", "--tail", "1", "--json").stdout.splitlines()) == 1
    assert "hello" in run("top").stdout

    assert run("sleep", "hello").returncode == 0
    assert json.loads(run("ps", "--json").stdout) == []
    done = run("invoke", "hello", "-i", "-d", "awake")
    assert "x-stoker-cold: 1" in done.stdout.lower()
    assert run("sleep", "hello").returncode == 0
    assert run("wake", "hello").returncode == 0
    assert len(json.loads(run("ps", "--json").stdout)) == 1

    assert run("rm", "hello").returncode == 0
    assert json.loads(run("ls", "--json").stdout) == []


def test_a_failing_redeploy_says_why_and_the_last_revision_serves(run: Run, folder: Path) -> None:
    assert run("deploy", str(folder)).returncode == 0
    (folder / "main.py").write_text(BROKEN)
    done = run("deploy", str(folder))
    assert done.returncode == 1
    assert "RuntimeError: no model in ********" in done.stderr
    assert "line 2, in init_context" in done.stderr
    assert "revision 1 goes on serving" in done.stderr
    assert "s3cr3t-value" not in done.stderr + done.stdout
    assert json.loads(run("invoke", "hello", "-d", "x").stdout) == {"got": "x"}


def test_a_project_is_deployed_whole(run: Run, folder: Path) -> None:
    (folder / "project.yaml").write_text(
        "kind: project\nmetadata: {name: shop}\n"
        "spec:\n  functions:\n  - {url: function.yaml, name: first}\n  - {url: function.yaml}\n"
    )
    done = run("deploy", str(folder / "project.yaml"))
    assert done.returncode == 0, done.stderr
    rows = json.loads(run("ls", "--json").stdout)
    assert [(row["name"], row["project"]) for row in rows] == [
        ("shop-first", "shop"),
        ("shop-hello", "shop"),
    ]


def test_a_function_of_another_project_is_not_taken_over(run: Run, folder: Path) -> None:
    assert run("deploy", str(folder)).returncode == 0
    text = YAML.replace(
        "name: hello\n", "name: hello\n  labels: {nuclio.io/project-name: bank}\n", 1
    )
    (folder / "function.yaml").write_text(text)
    done = run("deploy", str(folder))
    assert done.returncode == 1
    assert "in project default" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("invoke", "nobody"), 1, "function_not_found"),
        (("logs", "nobody"), 1, "there is no function 'nobody'"),
        (("wake", "nobody"), 1, "there is no function 'nobody'"),
        (("rm", "nobody"), 1, "there is no function 'nobody'"),
        (("deploy", "/nowhere"), 1, "does not exist"),
        (("invoke",), 2, "NAME"),
        (("ls", "--nope"), 2, "--nope"),
        (("invoke", "x", "-H", "no-colon"), 2, "Name: value"),
        (("logs", "nobody", "--since", "yesterday"), 1, "nobody"),
    ],
)
def test_what_goes_wrong_is_said_with_an_exit_code(
    empty: Platform, words: tuple[str, ...], code: int, says: str
) -> None:
    done = stoker(*words, home=empty.home.root)
    assert done.returncode == code
    assert says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_stoker_url_finds_a_platform_without_its_home(running: Any, folder: Path) -> None:
    url = running.endpoints.control_url
    done = stoker("deploy", str(folder), STOKER_URL=url)
    assert done.returncode == 0, done.stderr
    done = stoker("invoke", "hello", "-d", "x", STOKER_URL=url)
    assert json.loads(done.stdout) == {"got": "x"}


def test_up_and_down_by_the_command_line_with_keys(home_dir: Path, folder: Path) -> None:
    keys = home_dir.parent / f"{home_dir.name}.keys"
    keys.write_text("control: c-key\ndata: d-key\n")
    keys.chmod(0o600)
    ports = ("--port", "0", "--gateway-port", "0", "--devices", "cpu")
    try:
        done = stoker("up", "--detach", *ports, "--api-key-file", str(keys), home=home_dir)
        assert done.returncode == 0, done.stderr
        assert "control  http://127.0.0.1:" in done.stdout
        again = stoker("up", "--detach", *ports, home=home_dir)
        assert again.returncode == 1
        assert "running on this home already" in again.stderr

        done = stoker("ls", home=home_dir)
        assert done.returncode == 1
        assert "STOKER_API_KEY" in done.stderr
        assert stoker("ls", home=home_dir, STOKER_API_KEY="c-key").returncode == 0
        opened = {"STOKER_API_KEY": "c-key", "STOKER_DATA_KEY": "d-key"}
        assert stoker("deploy", str(folder), home=home_dir, **opened).returncode == 0
        assert stoker("invoke", "hello", "-d", "x", home=home_dir, **opened).returncode == 0
        assert stoker("invoke", "hello", "-d", "x", home=home_dir).returncode == 1

        found = json.loads(stoker("status", "--json", home=home_dir).stdout)
        assert found["running"]
        assert "c-key" not in json.dumps(found)
        checks = json.loads(stoker("doctor", "--json", home=home_dir).stdout)
        assert {check["level"] for check in checks if check["check"] == "platform"} == {"ok"}
    finally:
        done = stoker("down", home=home_dir)
        keys.unlink()
    assert done.returncode == 0, done.stderr
    done = stoker("status", home=home_dir)
    assert done.returncode == 1
    assert "not running" in done.stdout
    done = stoker("ls", home=home_dir)
    assert done.returncode == 1
    assert "stoker up" in done.stderr


def test_another_address_than_loopback_needs_a_key(home_dir: Path) -> None:
    done = stoker("up", "--detach", "--host", "0.0.0.0", home=home_dir)
    assert done.returncode == 2
    assert "API key" in done.stderr
