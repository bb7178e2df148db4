"""``stoker invoke`` against a server that only says what it was asked."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.cli.client import Client, Platform
from stoker.cli.failure import Failure

LARGE = 8 * 1024 * 1024
"""More than any pipe holds."""


class Server(http.server.BaseHTTPRequestHandler):
    """Answers what it was asked: request line and key; below ``/f/large`` much, or half of it."""

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path.startswith("/f/large"):
            self.send_header("Content-Length", str(LARGE))
            self.end_headers()
            self.wfile.write(b"x" * LARGE)
        elif self.path.startswith("/f/cut"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"4\r\nhalf\r\n")
        else:
            self.end_headers()
            said = {"line": self.requestline, "key": self.headers.get("X-API-Key")}
            self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home whose platform is the server above."""
    with (
        tempfile.TemporaryDirectory(prefix="st-", dir="/tmp") as folder,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server,
    ):
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (Path(folder) / "run").mkdir()
        told = {"control_url": url, "gateway_url": url}
        (Path(folder) / "run" / "endpoints.json").write_text(json.dumps(told))
        yield Path(folder)
        server.shutdown()


def start(home: Path, *words: str, **env: str) -> subprocess.Popen[bytes]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STOKER_")}
    command = [sys.executable, "-m", "stoker.cli.main", "invoke", "--home", str(home), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, env=clean | env)


def run(home: Path, *words: str, **env: str) -> tuple[int, bytes, str]:
    process = start(home, *words, **env)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.decode()


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/a b", "/f/a%20b"),
        ("/ü?q=→", "/f/%C3%BC?q=%E2%86%92"),
        ("/a%20b?c=d&e", "/f/a%20b?c=d&e"),
    ],
)
def test_a_path_is_quoted_where_it_must_be(home: Path, path: str, asked: str) -> None:
    code, out, err = run(home, "f", "--path", path)
    assert (code, err) == (0, "")
    assert json.loads(out)["line"] == f"GET {asked} HTTP/1.1"


@pytest.mark.parametrize(
    "words",
    [["-H", "näme: c"], ["-H", "name: →"], ["-X", "GE\nT"]],
)
def test_what_no_request_can_hold_is_wrong_usage_and_no_traceback(
    home: Path, words: list[str]
) -> None:
    code, _, err = run(home, "f", *words)
    assert code == 2, err
    assert err.startswith("stoker: no such request can be sent: ")
    assert "Traceback" not in err


def test_the_key_is_what_the_variable_holds_without_the_line_break_behind_it(home: Path) -> None:
    """It is how secrets come out of a file; http.client put the whole key into its refusal."""
    code, out, err = run(home, "f", STOKER_API_KEY="sesame\n")
    assert (code, err) == (0, "")
    assert json.loads(out)["key"] == "sesame"


def test_a_reader_that_has_enough_is_not_told_that_the_platform_is_away(home: Path) -> None:
    process = start(home, "f", "--path", "/large")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(1) == b"x"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def test_an_answer_that_breaks_off_is_said_to_and_what_came_is_shown(home: Path) -> None:
    code, out, err = run(home, "f", "--path", "/cut")
    assert (code, out) == (1, b"half")
    assert "was cut off" in err
    assert "cannot be reached" not in err


@pytest.mark.parametrize("url", ["http://127.0.0.1:x", "http://127.0.0.1:99999", "http://[::1"])
def test_an_address_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("STOKER_URL", url)
    with pytest.raises(Failure, match="STOKER_URL must be like"):
        Platform.find(None)


def test_a_host_that_can_have_no_address_is_said() -> None:
    with pytest.raises(Failure, match="no such request can be sent"):
        Client("http://a..b:1").get("/")
