"""What the pages show, done: functions deployed, commands sent, tables compared."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from starlette.routing import Route

from live_platform import platform_of_its_own
from stoker.api import ApiSettings, build_app
from stoker.cli.main import app as cli
from stoker.cli.pack import pack_function
from stoker.gateway.heads import TooSlow
from stoker.nouns import errors as nouns_errors
from stoker.nouns.errors import StokerError
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

DOCS = Path(__file__).resolve().parents[2] / "docs"
ELSEWHERE = frozenset({"sizes", "embed"})
"""Not deployed here: one needs a package index, the other a model, which other tests deploy."""
ROUTES = ("nuclio-compatibility.md", "mlrun-api.md", "rollouts.md")
"""Pages with tables of the control port's routes."""
VOLATILE = re.compile(r'(?<="request_id":")[^"]*|(?<=/invocations/)\w+|(?<="id":")\w+')


class Block(NamedTuple):
    """A fenced block: the heading it stands under, its language, its text."""

    heading: str
    language: str
    text: str


class Example(NamedTuple):
    """A whole function: ``function.yaml`` and ``main.py``."""

    heading: str
    config: str
    code: str

    @property
    def name(self) -> str:
        return str(yaml.safe_load(self.config)["metadata"]["name"])


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    heading, fence, lines = "", None, []
    for line in (DOCS / page).read_text().splitlines():
        if fence is not None and line == "```":
            found.append(Block(heading, fence, "\n".join(lines) + "\n"))
            fence, lines = None, []
        elif fence is not None:
            lines.append(line)
        elif line.startswith("```"):
            fence = line[3:]
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    assert fence is None, f"{page}: a fence is open at the end"
    return found


def examples() -> list[Example]:
    """Every yaml block of functions.md is a function, and the block after it is its code."""
    found = blocks("functions.md")
    pairs = []
    for index, block in enumerate(found):
        if block.language == "yaml":
            code = found[index + 1]
            assert (code.heading, code.language) == (block.heading, "python"), block.heading
            pairs.append(Example(block.heading, block.text, code.text))
    return pairs


class Command(NamedTuple):
    """One ``$ …`` line of a console block, and what the page says it prints."""

    words: list[str]
    shown: str


def commands(page: str) -> list[Command]:
    """The commands of a page's console blocks."""
    found = []
    for block in blocks(page):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                typed, _, shown = part.replace("\\\n", "").partition("\n")
                found.append(Command(shlex.split(typed), shown))
    return found


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the tables under a heading, cells without backquotes."""
    text = (DOCS / page).read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]
    return [row for row in cells if not set(row[0]) <= {"-", " "}]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_every_example_is_a_function_that_is_accepted(example: Example) -> None:
    config = FunctionConfig.parse(yaml.safe_load(example.config))
    ModelSettings.read(config.env)
    tree = ast.parse(example.code)
    defined = {
        node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    module, _, function = config.spec.handler.partition(":")
    assert module == "main"
    assert function in defined


def test_the_examples_are_found() -> None:
    names = [example.name for example in examples()]
    assert len(names) == len(set(names)) >= 10
    assert set(names) >= ELSEWHERE


def test_every_refusal_stands_in_the_table_with_its_status() -> None:
    rows = table("http.md", "Errors")
    documented = {(row[1], row[0]) for row in rows if row[0].isdigit()}
    errors = [e for e in vars(nouns_errors).values() if isinstance(e, type)]
    ours = {(e.code, str(e.status)) for e in [*errors, TooSlow] if issubclass(e, StokerError)}
    assert documented == ours


def test_every_route_of_the_control_port_stands_in_a_table() -> None:
    rows = [row for page in ROUTES for row in table(page, "Routes")]
    documented = {tuple(row[0].split(" ", 1)) for row in rows if row[0].partition(" ")[2]}
    app = build_app(None, None, Home(Path("/nowhere")), ApiSettings())  # type: ignore[arg-type]
    served = {
        (method, re.sub(r"\{(\w+)(:\w+)?\}", r"<\1>", route.path))
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith("/api/")
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
        if "function_invocations" not in route.path
        if route.path not in ("/api/v1/{path:path}", "/api/v2/{path:path}")
    }
    any_method = {
        ("ANY", "/api/function_invocations"),
        ("ANY", "/api/function_invocations/<rest>"),
        ("ANY", "/api/v1/<path>"),
        ("ANY", "/api/v2/<path>"),
    }
    assert {pair for pair in documented if pair[1].startswith("/api/")} == served | any_method


def test_every_verb_of_the_command_line_stands_in_the_table() -> None:
    rows = table("operating.md", "Commands")
    documented = {row[0].split()[1] for row in rows if row[0].startswith("stoker ")}
    verbs = {str(c.name or c.callback.__name__) for c in cli.registered_commands if c.callback}
    groups = {str(group.name or group.typer_instance.info.name) for group in cli.registered_groups}
    assert documented == verbs | groups


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A platform with the functions of functions.md, from the files that the page shows."""
    with platform_of_its_own() as running:
        running.up()
        deploy_examples(running, tmp_path_factory.mktemp("examples"))
        yield running


def deploy_examples(running: Any, place: Path) -> None:
    for example in examples():
        if example.name in ELSEWHERE:
            continue
        folder = place / example.name
        folder.mkdir()
        (folder / "function.yaml").write_text(example.config)
        (folder / "main.py").write_text(example.code)
        posted = running.client.put(
            f"{running.endpoints.control_url}/api/functions/{example.name}",
            json=pack_function(folder / "function.yaml").document,
            headers={"X-Nuclio-Wait-Function-Action": "true"},
        )
        assert posted.status_code == 202, posted.text


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_what_the_pages_show_is_what_is_answered(documented: Any) -> None:
    """Every curl command of functions.md and http.md, against the functions of functions.md."""
    sent = 0
    place = ""
    for page in ("functions.md", "http.md"):
        for command in commands(page):
            if command.words[0] != "curl" or "/sizes" in command.words[-1]:
                continue
            url = re.sub(r"(?<=/invocations/)\w+", place, command.words[-1])
            answer = ask(documented, command.words[1:-1], url, finished=bool(place))
            assert_as_shown(answer, command.shown)
            place = answer.headers.get("location", "").rpartition("/")[2]
            sent += 1
    assert sent >= 10


def ask(platform: Any, options: list[str], url: str, *, finished: bool) -> httpx.Response:
    """What ``curl`` with these options would send; again until the invocation is finished."""
    method, headers, body = "", {}, None
    rest = iter(options)
    for option in rest:
        if option == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif option == "-d":
            body = next(rest).encode()
        elif option == "-X":
            method = next(rest)
        else:
            assert option in ("-i", "-N"), option
    target = url.replace("http://127.0.0.1:8080", platform.endpoints.gateway_url)
    method = method or ("GET" if body is None else "POST")
    while True:
        answer: httpx.Response = platform.client.request(
            method, target, headers=headers, content=body
        )
        if not finished or answer.headers.get("x-stoker-invocation") == "finished":
            return answer


def assert_as_shown(answer: httpx.Response, shown: str) -> None:
    """The body to the letter, less ids; with ``-i`` the status and the names of the headers too."""
    if shown.startswith("HTTP/1.1 "):
        head, _, shown = shown.partition("\n\n")
        status, *lines = head.splitlines()
        assert status == f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"
        assert {line.partition(":")[0].lower() for line in lines} <= set(answer.headers)
    told = VOLATILE.sub("…", answer.text).rstrip("\n")
    assert told == VOLATILE.sub("…", shown).rstrip("\n")


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_batch_cron_log_and_async_examples_do_what_their_page_says(documented: Any) -> None:
    mixed = [documented.call("lengths", body) for body in (b"abc", b"")]
    assert mixed[0].json()["length"] == 3
    assert mixed[1].status_code == 500
    assert "an empty body" in mixed[1].json()["error"]["message"]
    logged = documented.call("chatty", b"xy", **{"X-Nuclio-Log-Level": "info"})
    assert '"message": "asked"' in logged.headers["x-nuclio-logs"]
    by_hand = documented.client.get(f"{documented.endpoints.gateway_url}/sweeper").json()
    assert by_hand == {"by_cron": False}
    assert documented.call("waiter").json() == {"waited": 0.2}
    late = documented.client.get(
        f"{documented.endpoints.gateway_url}/waiter?seconds=5", headers={"X-Request-Timeout": "0.1"}
    )
    assert (late.status_code, late.json()["error"]["code"]) == (408, "deadline_exceeded")


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_every_metric_of_a_running_platform_stands_in_the_table(running: Any) -> None:
    running.deploy("counted")
    assert running.call("counted", b"x").status_code == 200
    rows = table("operating.md", "Metrics")
    documented = {row[0] for row in rows if row[0].startswith("stoker_")}
    text = running.client.get(f"{running.endpoints.control_url}/metrics").text
    assert documented == set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
