"""``stoker deploy`` of one function of a project, and of what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fake_control import fake_control
from stoker.cli import deploy as deploy_module
from stoker.cli.failure import Failure
from stoker.cli.main import app
from stoker.cli.pack import Package
from stoker.cli.project import find_packages, listing_project

PROJECT = """\
kind: project
metadata: {name: news}
spec:
  functions:
  - {name: first, url: fns/first/function.yaml}
  - {url: fns/second/function.yaml}
  - {name: graph, url: graphs/the_graph.py}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        folder = tmp_path / "fns" / name
        folder.mkdir(parents=True)
        (folder / "main.py").write_text("def handler(context, event): ...\n")
        (folder / "function.yaml").write_text(
            f"metadata: {{name: {name}}}\nspec: {{handler: 'main:handler', runtime: python}}\n"
        )
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "the_graph.py").write_text("raise RuntimeError('compiled')\n")
    (tmp_path / "project.yaml").write_text(PROJECT)
    return tmp_path / "project.yaml"


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["first"], ["news-first"]),
        (["news-second"], ["news-second"]),
        (["second", "news-first", "first"], ["news-first", "news-second"]),
    ],
)
def test_only_the_named_functions_are_packed(
    project: Path, only: list[str], names: list[str]
) -> None:
    assert [package.name for package in find_packages(project, only)] == names


@pytest.mark.parametrize(
    ("only", "hint"),
    [("frist", "did you mean first"), ("news-secnd", "did you mean second"), ("zzz", "graph")],
)
def test_an_unknown_name_is_refused_with_near_ones(project: Path, only: str, hint: str) -> None:
    with pytest.raises(Failure) as caught:
        find_packages(project, ["first", only])
    assert f"no function {only!r}" in caught.value.message
    assert hint in caught.value.hint


def test_only_of_a_single_function_is_wrong_usage(project: Path) -> None:
    with pytest.raises(Failure, match="--only") as caught:
        find_packages(project.parent / "fns" / "first", ["first"])
    assert caught.value.exit_code == 2


def test_only_stands_in_the_help_and_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(deploy_module, "deploy", lambda *_, only, **__: heard.append(only))
    runner, env = CliRunner(), {"COLUMNS": "200", "NO_COLOR": "1"}
    assert "--only" in runner.invoke(app, ["deploy", "--help"], env=env).stdout
    runner.invoke(app, ["deploy", "p", "--only", "a", "--only", "b"])
    runner.invoke(app, ["deploy", "p"])
    assert [list(only) for only in heard] == [["a", "b"], []]


def deployed(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What ``deploy`` says of it on stderr, without a platform."""

    def one(_client: Any, package: Package, **_: Any) -> dict[str, Any]:
        return {"name": package.name}

    monkeypatch.setattr(deploy_module, "_deploy_one", one)
    done = CliRunner().invoke(app, ["deploy", *words], env={"STOKER_URL": "http://h:1"})
    assert done.exit_code == 0, done.output
    return done.stderr


def test_a_function_that_a_project_lists_is_deployed_with_a_hint(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    assert deployed(monkeypatch, "fns/second") == (
        "this deploys second into project default; "
        "for the project: stoker deploy project.yaml --only second\n"
    )
    assert deployed(monkeypatch, "fns/second", "--json") == ""
    assert deployed(monkeypatch, "project.yaml", "--only", "second") == ""
    labelled = project.parent / "fns" / "first" / "function.yaml"
    labelled.write_text(
        labelled.read_text().replace("first}", "a, labels: {nuclio.io/project-name: news}}")
    )
    assert deployed(monkeypatch, "fns/first") == ""


def test_a_function_that_no_readable_project_lists_has_none(project: Path) -> None:
    function = project.parent / "fns" / "first" / "function.yaml"
    assert listing_project(function) == (project.resolve(), "news", "first")
    project.write_text(PROJECT.replace("fns/first", "fns/other"))
    assert listing_project(function) is None
    project.write_text("{")
    assert listing_project(function) is None


def test_a_python_file_is_refused_with_what_to_give(project: Path) -> None:
    code = project.parent / "fns" / "first" / "main.py"
    with pytest.raises(Failure, match=r"main\.py is not a function\.yaml; give its folder") as said:
        find_packages(code)
    assert str(code.parent) in said.value.hint


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("graphs/the_graph.py", "stoker deploy project.yaml --only graph"),
        ("fns/first/main.py", "stoker deploy fns/first"),
        ("graphs/other.py", "no project.yaml above it lists it"),
    ],
)
def test_a_file_of_code_is_refused_with_a_command_that_works(
    project: Path, file: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    (project.parent / "graphs" / "other.py").write_text("")
    with pytest.raises(Failure) as caught:
        find_packages(Path(file))
    assert says in f"{caught.value.message}\n{caught.value.hint}"


def test_a_deploy_that_is_not_waited_for_says_where_to_look(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said nothing at all."""
    folder = str(project.parent / "fns" / "first")
    with fake_control(lambda texts, _env: texts) as fake:
        monkeypatch.setenv("STOKER_URL", fake.url)
        done = CliRunner().invoke(app, ["deploy", folder, "--no-wait"])
    assert done.exit_code == 0
    told = "first revision 1 is being deployed; how it goes: stoker ls\n"
    assert done.stdout == told
