"""The command line without a platform: help, usage, finding, and how light it stays."""

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

import pynvml
import pytest
from typer.testing import CliRunner

from fake_nvml import GIB, Card, FakeNvml
from stoker.cli import doctor, main
from stoker.cli.client import Client
from stoker.cli.doctor import examine, platform_devices
from stoker.cli.failure import Failure
from stoker.cli.function_verbs import log_line
from stoker.cli.main import app
from stoker.controller import nvml
from stoker.nouns.home import Home

VERBS = ["up", "down", "status", "deploy", "ls", "ps", "top", "invoke", "logs", "rm", "wake"]
VERBS += ["sleep", "doctor"]
HEAVY = (
    "httpx",
    "stoker.nouns.function",
    "starlette",
    "uvicorn",
    "redis",
    "torch",
    "mlrun",
    "psutil",
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a name short enough for a home: unix sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="st-", dir="/tmp") as folder:
        yield Path(folder)


def clean() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("STOKER_")}


def run(*words: str, **env: str) -> Any:
    command = [sys.executable, "-m", "stoker.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean() | env)


def test_every_verb_has_help_and_takes_a_home() -> None:
    for verb in VERBS:
        result = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
        assert result.exit_code == 0
        assert "--home" in result.stdout, verb


@pytest.mark.parametrize("words", [["--help"], ["ls"], ["invoke", "x"], ["logs", "x"], ["rm", "x"]])
def test_help_and_client_verbs_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    """Each of these costs a tenth of a second and more; together they must answer in 0.4 s."""
    script = (
        "import sys, json, atexit\n"
        f"heavy = {HEAVY!r}\n"
        "atexit.register(lambda: print('LOADED', [m for m in heavy if m in sys.modules]))\n"
        f"sys.argv = ['stoker', *{words!r}]\n"
        "from stoker.cli.main import main\n"
        "main()\n"
    )
    env = clean() | {"STOKER_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=env
    )
    assert "LOADED []" in done.stdout


def test_no_platform_in_the_home_is_said_with_what_to_do(tmp_path: Path) -> None:
    done = run("ls", "--home", str(tmp_path))
    assert done.returncode == 1
    assert f"no platform runs in the home {tmp_path}" in done.stderr
    assert "stoker up" in done.stderr
    done = run("status", "--home", str(tmp_path))
    assert (done.returncode, "not running" in done.stdout) == (1, True)


def test_an_unreachable_platform_is_said(unused_tcp_port: int) -> None:
    done = run("ls", STOKER_URL=f"http://127.0.0.1:{unused_tcp_port}")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_system_refuses_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The home of another user, to begin with."""

    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "/home/eve/.stoker/lock")

    monkeypatch.setattr(main, "app", refuse)
    with pytest.raises(SystemExit, match="1"):
        main.main()
    assert capsys.readouterr().err == "stoker: /home/eve/.stoker/lock: Permission denied\n"


def test_a_wrong_stoker_url_is_said() -> None:
    done = run("ls", STOKER_URL="localhost:8070")
    assert done.returncode == 1
    assert "must be like" in done.stderr


def test_a_home_with_broken_endpoints_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "endpoints.json").write_text("{")
    done = run("ps", "--home", str(tmp_path))
    assert done.returncode == 1
    assert "endpoints.json cannot be read" in done.stderr


def test_a_home_too_long_for_sockets_is_said(tmp_path: Path) -> None:
    done = run("ls", "--home", str(tmp_path / ("x" * 120)))
    assert done.returncode == 1
    assert "at most" in done.stderr


def test_wrong_usage_exits_with_2() -> None:
    for words in (["nothing"], ["invoke"], ["ls", "--nope"], ["up", "--port", "x"]):
        assert CliRunner().invoke(app, words).exit_code == 2, words
    done = run("up", "--detach", "--port", "70000", "--home", "/tmp/never-made")
    assert done.returncode == 2
    done = run("up", "--detach", "--port", "9", "--gateway-port", "9", "--home", "/tmp/never-made")
    assert done.returncode == 2
    assert "must differ" in done.stderr
    assert not Path("/tmp/never-made").exists()


def test_a_platform_is_found_by_its_home_before_stoker_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stoker.cli.client import Platform

    (tmp_path / "run").mkdir()
    told = {"control_url": "http://127.0.0.1:1", "gateway_url": "http://127.0.0.1:2"}
    (tmp_path / "run" / "endpoints.json").write_text(json.dumps(told))
    monkeypatch.setenv("STOKER_URL", "http://127.0.0.1:3")
    assert Platform.find(str(tmp_path)).control_url == "http://127.0.0.1:1"
    assert Platform.find(None).control_url == "http://127.0.0.1:3"
    monkeypatch.delenv("STOKER_URL")
    monkeypatch.setenv("STOKER_HOME", str(tmp_path))
    assert Platform.find(None).gateway_url == "http://127.0.0.1:2"
    monkeypatch.setenv("STOKER_HOME", str(tmp_path / "none"))
    with pytest.raises(Failure):
        Platform.find(None)


def test_the_doctor_looks_at_everything_and_advises(tmp_path: Path) -> None:
    findings = {finding.check: finding for finding in examine(str(tmp_path / "home"))}
    assert set(findings) == {
        *("python", "packages", "compiler", "redis", "home", "disk", "memory", "devices", "ports"),
        *("platform", "zygotes"),
    }
    assert findings["redis"].level == "ok"
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    findings = {finding.check: finding for finding in examine(str(tmp_path / "open"))}
    assert findings["home"].level == "warn"
    assert "chmod 700" in findings["home"].advice


def test_the_doctor_shows_the_cards_and_says_when_the_driver_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def devices() -> list[tuple[str, str]]:
        found = examine(str(tmp_path / "home"))
        return [(one.level, one.found) for one in found if one.check == "devices"]

    fake = FakeNvml(Card("GPU-aaaa", used=2 * GIB), Card("GPU-bbbb"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nvml, "pynvml", fake)
    first, _second = devices()
    shown = "GPU-aaaa NVIDIA H100, cuda, compute 9.0, 2.0 GiB of 79.5 GiB used"
    assert first == ("ok", shown)
    fake.init_fails = pynvml.NVML_ERROR_NO_PERMISSION
    ((level, why),) = devices()
    assert level == "warn"
    assert "Insufficient Permissions" in why


def test_the_doctor_shows_the_devices_of_the_platform_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = {
        "id": "SIM-0", "name": "simulated", "kind": "sim", "capability": None, "lost": True,
        "promised_bytes": 0, "foreign_bytes": 2 * GIB, "total_bytes": 16 * GIB,
    }  # fmt: skip
    told = {"control_url": "http://h:1", "gateway_url": "http://h:2"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "endpoints.json").write_text(json.dumps(told))
    monkeypatch.setattr(Client, "get", lambda *_: {"devices": [device]})
    (found,) = platform_devices(Home(tmp_path))
    text = "SIM-0 simulated, sim, 0 B promised and 2.0 GiB foreign of 16.0 GiB: lost"
    assert (found.level, found.found) == ("warn", text)


def test_the_doctor_asks_a_platform_with_a_key_for_its_devices_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, it showed the machine's own devices in the place of the platform's."""
    asked: list[str] = []

    def get(client: Client, path: str) -> Any:
        asked.append(client.key)
        return {"devices": []}

    told = {"control_url": "http://h:1", "gateway_url": "http://h:2"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "endpoints.json").write_text(json.dumps(told))
    monkeypatch.setattr(Client, "get", get)
    monkeypatch.setenv("STOKER_API_KEY", "sesame")
    platform_devices(Home(tmp_path))
    assert asked == ["sesame"]


def test_the_doctor_finds_every_package_of_the_core_and_misses_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """nvidia-ml-py is imported by another name, so it was missing on every machine."""
    first = next(doctor.packages())
    assert (first.level, first.found.split()[0]) == ("ok", "stoker")
    told = ["nvidia-ml-py>=12", "no.such-package<2", "nor-this>=1; extra == 'models'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: told)
    first = next(doctor.packages())
    assert (first.level, first.found) == ("fail", "missing: no.such-package")


def test_the_doctor_shows_names_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder named like markup was shown by another name, or ended the doctor."""
    monkeypatch.setattr(
        doctor, "examine", lambda _: [doctor.Finding("home", "ok", "/a/[b]/[/c]", "see [/d]")]
    )
    assert doctor.doctor(None, as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[0] == "ok    home       /a/[b]/[/c]"


def test_the_doctor_fails_on_a_platform_that_does_not_answer(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    (tmp_path / "run").mkdir()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    told = {"control_url": url, "gateway_url": url}
    (tmp_path / "run" / "endpoints.json").write_text(json.dumps(told))
    done = run("doctor", "--home", str(tmp_path), "--json")
    assert done.returncode == 1
    levels = {check["check"]: check["level"] for check in json.loads(done.stdout)}
    assert levels["platform"] == "fail"


def test_a_log_line_is_made_readable_and_a_raw_one_left_alone() -> None:
    entry = {
        "time": 0,
        "level": "error",
        "message": "no [bold]markup[/] here",
        "replica": "r",
        "worker": 1,
        "request_id": "q",
        "with": {"a": 1},
    }
    text = str(log_line(json.dumps(entry)))
    assert "error r.1 no [bold]markup[/] here  request=q  a=1" in text
    for raw in ("plain", "[1, 2]", "{broken", '{"no": "message"}', '{"message": 5, "with": []}'):
        assert log_line(raw)


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z info  "),
        (1_769_860_800_000_000, "1769860800000000 info  "),
        (None, " info  "),
        ([1], "[1] info  "),
    ],
)
def test_a_line_of_json_that_is_the_functions_own_is_shown_whatever_its_time_is(
    stamp: Any, shown: str
) -> None:
    """What a child process of a function prints goes into its log as it is, JSON or not."""
    assert str(log_line(json.dumps({"time": stamp, "message": "hello"}))).startswith(shown)


def test_fields_that_had_no_form_in_json_are_shown_as_the_worker_wrote_them() -> None:
    entry = {"time": 0, "level": "info", "message": "big", "with": ascii({"n": 2**70})}
    assert str(log_line(json.dumps(entry))).endswith("big  {'n': 1180591620717411303424}")


def test_the_redis_may_be_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from stoker.cli import platform_verbs

    heard: list[Any] = []

    def up(*, told: dict[str, Any], **_: Any) -> int:
        heard.append(told["redis"])
        return 0

    monkeypatch.setattr(platform_verbs, "up", up)
    env = {"STOKER_REDIS_URL": "redis://:pw@host/0"}
    CliRunner().invoke(app, ["up"], env=env)
    CliRunner().invoke(app, ["up", "--redis", "redis://other/0"], env=env)
    assert heard == ["redis://:pw@host/0", "redis://other/0"]


def test_a_followed_log_may_be_silent_for_longer_than_any_other_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server sends one line, then waits for the client's timeout to be looked at."""
    from stoker.cli import client as client_module

    monkeypatch.setattr(client_module, "LONG_S", 0.2)
    go_on = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"first\n")
            go_on.wait(5)
            self.wfile.write(b"second\n")

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever).start()
        client = client_module.Client(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(Failure, match=r"within 0\.2 s"):
            list(client.lines("/"))
        timer = threading.Timer(0.6, go_on.set)
        timer.start()
        assert list(client.lines("/", may_pause=True)) == [b"first\n", b"second\n"]
        timer.join()
        server.shutdown()
