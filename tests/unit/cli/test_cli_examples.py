"""The examples in the help: there for every verb, and such as the verb takes."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stoker.cli.examples import EXAMPLES
from stoker.cli.main import app

EACH = [(verb, example) for verb, examples in EXAMPLES.items() for example in examples]


def verbs(command: Any, name: str = "") -> dict[str, Any]:
    """Every command below one, itself too, by its words."""
    found = {name: command}
    for word, below in getattr(command, "commands", {}).items():
        found |= verbs(below, f"{name} {word}".strip())
    return found


VERBS = verbs(typer.main.get_command(app))


def test_every_verb_has_examples_and_there_are_none_of_others() -> None:
    assert set(EXAMPLES) == set(VERBS)


@pytest.mark.parametrize(("verb", "example"), EACH, ids=[example for _, example in EACH])
def test_an_example_is_what_its_verb_takes(verb: str, example: str) -> None:
    program, *words = shlex.split(example)
    assert program == "stoker"
    assert words[: len(verb.split())] == verb.split()
    command, path = VERBS[""], ""
    while hasattr(command, "commands"):
        path = f"{path} {words.pop(0)}".strip()
        command = VERBS[path]
    context = command.make_context(path, words)
    assert context.args == []


@pytest.mark.parametrize("verb", EXAMPLES)
def test_the_help_shows_each_on_a_line_of_its_own(verb: str) -> None:
    env = {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    shown = CliRunner().invoke(app, [*verb.split(), "--help"], env=env).stdout
    lines = [line.strip() for line in shown.splitlines()]
    for example in EXAMPLES[verb]:
        assert f"$ {example}" in lines
