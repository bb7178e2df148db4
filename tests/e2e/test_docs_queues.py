"""What docs/queues.md shows, done: its example, its commands, its requests, its trigger."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from live_platform import Platform, eventually, platform_of_its_own
from stoker.nouns.function import FunctionConfig
from stoker.nouns.stream_trigger import (
    DEFAULT_POLL_MS,
    DEFAULT_READ_BATCH,
    DEFAULT_RETRY_MS,
    DEFAULT_TRIES,
    DEFAULT_WINDOW,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queues.md"
STOKER = Path(sys.executable).with_name("stoker")
VOLATILE = re.compile(r'(?<="arrivedAt":)[0-9.]+|\d{13}-\d+|\d+(\.\d+)? (s|ms|B)\b')


def blocks(language: str, heading: str = "") -> list[str]:
    """The fenced blocks of the page, below one heading or all."""
    text = PAGE.read_text()
    if heading:
        text = re.split(rf"^## {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
        text = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(heading: str) -> list[tuple[list[str], str]]:
    """The commands of a heading's console blocks, and what they print."""
    found = []
    for block in blocks("console", heading):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed, _, shown = part.partition("\n")
            found.append((shlex.split(typed), shown))
    return found


@pytest.fixture(scope="module")
def live() -> Iterator[Platform]:
    with platform_of_its_own() as platform:
        platform.up(zygotes=("plain", "mlrun"))
        yield platform


def stoker(platform: Platform, words: list[str]) -> str:
    assert platform.endpoints is not None
    done = subprocess.run(
        [STOKER, *words[1:]],
        env={**os.environ, "STOKER_URL": platform.endpoints.control_url, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def cells(text: str) -> list[list[str]]:
    """A table's cells, less what differs from run to run."""
    lines = [VOLATILE.sub("~", line) for line in text.splitlines()]
    return [re.split(r" {2,}", line.strip()) for line in lines]


@pytest.mark.e2e
@pytest.mark.mlrun
@pytest.mark.timeout(180)
def test_the_example_does_what_the_page_says(live: Platform, tmp_path: Path) -> None:
    for code in blocks("python", "An example"):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name is not None
        (tmp_path / name[1]).write_text(code)
    assert live.endpoints is not None
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MLRUN_", "V3IO_"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "deploy.py"],
        cwd=tmp_path,
        env={**own, "MLRUN_DBPATH": live.endpoints.control_url, "MLRUN_IGNORE_ENV_FILE": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    url = f"{live.endpoints.control_url}/api/streams/projects/shop/inbox"

    def settled() -> bool:
        (group,) = live.client.get(url).json()["groups"]
        return bool(group["dead"] == 1 and group["lag"] == group["pending"] == 0)

    eventually(settled)
    for words, shown in commands("An example"):
        assert cells(stoker(live, words)) == cells(shown), words
    (letter,) = live.client.get(f"{url}/dead").json()["dead"]
    for words, _ in commands("Looking and replaying"):
        # A dead letter that was replayed is one no more; its handler has not been mended here.
        if any(re.fullmatch(r"\d+-\d+", word) for word in words):
            letter = eventually(lambda: live.client.get(f"{url}/dead").json()["dead"])[0]
            words = [letter["id"] if re.fullmatch(r"\d+-\d+", word) else word for word in words]
        stoker(live, words)


@pytest.mark.e2e
def test_the_requests_are_answered_as_shown(live: Platform) -> None:
    assert live.endpoints is not None
    sent = 0
    for words, shown in commands("Over HTTP"):
        assert words[0] == "curl"
        headers, method, body = {}, "GET", None
        rest = iter(words[1:-1])
        for option in rest:
            if option == "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            elif option == "-X":
                method = next(rest)
            elif option == "-d":
                body = next(rest)
            else:
                assert option == "-i"
        url = words[-1].replace("http://127.0.0.1:8070", live.endpoints.control_url)
        answer = live.client.request(method, url, headers=headers, content=body)
        if shown.startswith("HTTP/1.1 "):
            status, _, shown = shown.partition("\n")
            assert status == f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"
        assert VOLATILE.sub("~", answer.text) == VOLATILE.sub("~", shown.strip())
        sent += 1
    assert sent == 4


def test_the_trigger_of_the_page_is_accepted_and_its_table_tells_the_defaults() -> None:
    (text,) = blocks("yaml", "The trigger")
    declared = {"metadata": {"name": "f"}, "spec": yaml.safe_load(text)}
    (trigger,) = FunctionConfig.parse(declared).stream_triggers.values()
    assert (trigger.stream, trigger.group) == ("projects/shop/inbox", "scoring")
    rows: dict[str, Any] = {
        row[1].strip(): row[2].strip()
        for row in (line.split("|") for line in PAGE.read_text().splitlines())
        if len(row) > 3 and row[1].strip().startswith("`")
    }
    assert rows["`readBatchSize`"] == str(DEFAULT_READ_BATCH)
    assert rows["`ackWindowSize`"] == str(DEFAULT_WINDOW)
    assert rows["`pollingIntervalMs`"] == str(DEFAULT_POLL_MS)
    assert rows["`maxTries`"] == str(DEFAULT_TRIES)
    assert rows["`retryIntervalMs`"] == str(DEFAULT_RETRY_MS)


def test_the_handler_of_the_page_is_python() -> None:
    (code,) = blocks("python", "A handler of your own")
    ast.parse(code)
