"""Finding the handler's module, the log's lines, and what a zygote must not fork."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nuclio_sdk
import pytest

from stoker.nouns.errors import DeadlineExceeded
from stoker.nouns.launch import WorkerLaunch
from stoker.worker.calls import GatewayPlatform
from stoker.worker.deadline import DEADLINE
from stoker.worker.handler import HandlerError, import_handler_module
from stoker.worker.log import REQUEST_ID, LineSink, WorkerLog
from stoker.worker.logger import CAPTURE, HEADER_LIMIT, Capture, WorkerLogger
from stoker.worker.neighbours import Neighbours
from stoker.worker.preimport import shadowed


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("plain_fn.py", "plain_fn"),
        ("dashed-fn.py", "dashed-fn"),
        ("dotted.fn.py", "dotted.fn"),
        ("deep/pkg/mod.py", "deep.pkg.mod"),
        ("json.py", "json"),
    ],
)
def test_a_module_of_the_functions_folder_is_found(code: Path, file: str, name: str) -> None:
    path = code / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("WORD = 'mine'\n")
    assert import_handler_module(code, name).WORD == "mine"


def test_a_taken_name_stays_with_its_owner(code: Path) -> None:
    (code / "json.py").write_text("WORD = 'mine'\n")
    import_handler_module(code, "json")
    assert sys.modules["json"] is json


def test_an_installed_module_may_be_the_handlers(code: Path) -> None:
    assert import_handler_module(code, "json.decoder").__name__ == "json.decoder"


def test_a_missing_module_is_told_from_a_missing_import_of_it(code: Path) -> None:
    (code / "there.py").write_text("import not_there_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        import_handler_module(code, "there")
    with pytest.raises(HandlerError, match=r"no module 'elsewhere'.*there\.py"):
        import_handler_module(code, "elsewhere")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[WorkerLog, Path]]:
    path = tmp_path / "log"
    log = WorkerLog(str(path), function="f", replica="r", worker=2)
    yield log, path
    os.close(log.descriptor)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prints_become_lines_however_they_are_cut(log: tuple[WorkerLog, Path]) -> None:
    sink = LineSink(log[0], "info", 1)
    for piece in (b"one\ntw", b"o\n", b"\xff\n", b"rest"):
        sink.write(piece)
    sink.finish()
    assert [line["message"] for line in lines(log[1])] == ["one", "two", "\\xff", "rest"]


def test_a_line_names_its_worker_and_request(log: tuple[WorkerLog, Path]) -> None:
    token = REQUEST_ID.set("q7")
    log[0].write("info", "x", {"n": 1, "o": object})
    REQUEST_ID.reset(token)
    log[0].write("warn", "lone \ud800 surrogate", {"big": 2**80})
    first, second = lines(log[1])
    assert first["request_id"] == "q7"
    assert (first["function"], first["replica"], first["worker"]) == ("f", "r", 2)
    assert "request_id" not in second
    assert "\\ud800" in str(second["message"])


def test_the_logger_speaks_nuclio_and_feeds_the_replys_header(log: tuple[WorkerLog, Path]) -> None:
    logger = WorkerLogger(log[0])
    capture = Capture("warn")
    token = CAPTURE.set(capture)
    logger.bind(model="m")
    logger.info("%s of %d", "one", 2)
    logger.warn_with("careful", n=1)
    logger.error("bad %d", "format")
    CAPTURE.reset(token)
    assert [line["message"] for line in lines(log[1])] == [
        "one of 2",
        "careful",
        "bad %d ('format',)",
    ]
    captured = json.loads(capture.header())
    assert [(line["level"], line["model"]) for line in captured] == [("warn", "m"), ("error", "m")]


def test_the_logs_header_keeps_the_newest_and_stays_short() -> None:
    capture = Capture("debug")
    for number in range(500):
        capture.add(20, "ü" * 40, {"n": number})
    header = capture.header()
    assert len(header) <= HEADER_LIMIT
    assert header.isascii()
    assert json.loads(header)[-1]["n"] == 499


def test_a_call_to_another_function_carries_what_is_left_of_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stoker.worker.calls.time.monotonic", lambda: 100.0)
    sent: dict[str, object] = {}

    class Connection:
        def __init__(self, address: str, timeout: float | None) -> None:
            sent.update(address=address, timeout=timeout)

        def request(self, method: str, path: str, body: object, headers: dict[str, str]) -> None:
            sent.update(method=method, path=path, body=body, headers=headers)
            raise ConnectionRefusedError

        def close(self) -> None:
            sent["closed"] = True

    neighbours = Neighbours("", "w", gateway_url="http://127.0.0.1:8080", gateway_key="secret")
    platform = GatewayPlatform(neighbours, "default")
    platform._connection_provider = Connection
    event = nuclio_sdk.Event(body=[1], headers={"x-request-timeout": "99"})
    token = DEADLINE.set(102.5)
    with pytest.raises(ConnectionRefusedError):
        platform.call_function("other", event)
    assert (sent["address"], sent["timeout"], sent["method"]) == ("127.0.0.1:8080", 2.5, "POST")
    assert sent["body"] == "[1]"
    assert sent["headers"] == {
        "X-Request-Timeout": "2.500",
        "X-API-Key": "secret",
        "Content-Type": "application/json",
        "X-Nuclio-Target": "other",
    }
    assert event.headers == {"x-request-timeout": "99"}
    DEADLINE.set(99.0)
    with pytest.raises(DeadlineExceeded):
        platform.call_function("other", event)
    DEADLINE.reset(token)


@pytest.mark.parametrize(
    ("files", "conflict"),
    [
        (["main.py", "own_thing/__init__.py"], ""),
        (["orjson/__init__.py"], "orjson"),
        (["pydantic.py"], "pydantic"),
        (["orjson.cpython-311-x86_64-linux-gnu.so"], "orjson"),
        (["notes/pydantic.txt"], ""),
    ],
)
def test_a_function_that_brings_what_is_imported_is_noticed(
    tmp_path: Path, files: list[str], conflict: str
) -> None:
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.touch()
    launch = WorkerLaunch(
        function="f",
        revision=1,
        replica="r",
        index=0,
        socket="s",
        log="l",
        code_dir=str(tmp_path),
        handler="main:handler",
    )
    reason = shadowed(launch)
    assert bool(reason) is bool(conflict)
    assert conflict in reason
