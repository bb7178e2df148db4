"""``stoker deploy`` of a whole project: its functions, its graphs, what its setup file makes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, platform_of_its_own

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun]

CODE = "def handler(context, event):\n    return {'n': (event.body or {}).get('n', 0) + 1}\n"
FUNCTION = """\
apiVersion: nuclio.io/v1
kind: Function
metadata: {name: plus}
spec: {handler: "plus:handler", runtime: "python:3.11", minReplicas: 1}
"""
GRAPH = """\
import mlrun

class Twice:
    def do(self, x):
        return {"n": x["n"] * 2}

def create(project):
    function = mlrun.code_to_function("both", project=project, kind="serving", filename=__file__)
    flow = function.set_topology("flow", engine="async")
    flow.to("Twice", name="twice").to(
        "$remote", name="plus", url=f"{project}/plus", method="POST").respond()
    return function
"""
SETUP = """\
import importlib.util, pathlib
import mlrun

def setup(project):
    here = pathlib.Path(project.context).resolve()
    plus = mlrun.code_to_function("plus", project=project.name, kind="nuclio",
                                  filename=str(here / "fns" / "plus.py"), handler="handler")
    project.set_function(plus)
    spec = importlib.util.spec_from_file_location("g", here / "graph.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    project.set_function(module.create(project.name))
    project.set_function(mlrun.new_function("train", project=project.name, kind="job", image="i"))
    return project
"""


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """A running platform with what graphs need; each test has a project of its own on it."""
    with platform_of_its_own() as made:
        made.up(zygotes=("plain", "mlrun"))
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fns").mkdir()
    (tmp_path / "fns" / "plus.py").write_text(CODE)
    (tmp_path / "fns" / "function.yaml").write_text(FUNCTION)
    (tmp_path / "graph.py").write_text(GRAPH)
    return tmp_path


def stoker(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stoker.cli.main", *arguments, "--home", str(platform.home.root)],
        env={k: v for k, v in os.environ.items() if not k.startswith(("MLRUN", "V3IO"))},
        capture_output=True,
        text=True,
        check=False,
    )


def project(folder: Path, name: str, *functions: str) -> str:
    path = folder / "project.yaml"
    listed = "".join(f"\n  - {entry}" for entry in functions) or " []"
    path.write_text(f"kind: project\nmetadata: {{name: {name}}}\nspec:\n  functions:{listed}\n")
    return str(path)


def ask(platform: Platform, name: str) -> Any:
    return platform.call(name, b'{"n": 3}', **{"Content-Type": "application/json"}).json()


def test_a_project_deploys_what_it_lists_and_the_same_again(
    platform: Platform, folder: Path
) -> None:
    path = project(
        folder,
        "sums",
        "{name: both, kind: serving, url: graph.py}",
        "{name: plus, url: fns/function.yaml}",
    )
    for revision in (1, 2):
        done = stoker(platform, "deploy", path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"sums-plus revision {revision} ready" in done.stdout
        assert f"sums-both revision {revision} ready" in done.stdout
        # A graph asks for its functions when it starts.
        assert done.stdout.index("sums-plus revision") < done.stdout.index("sums-both revision")
        assert ask(platform, "sums-both") == {"n": 7}
    assert platform.endpoints is not None
    stored = platform.client.get(
        f"{platform.endpoints.control_url}/api/v1/projects/sums/functions/both"
    ).json()["func"]
    assert stored["status"]["state"] == "ready"
    only = stoker(platform, "deploy", path, "--only", "both", "--json")
    assert [one["metadata"]["name"] for one in json.loads(only.stdout)] == ["sums-both"]
    (folder / "graph.py").write_text(GRAPH.replace("{project}/plus", "{project}/pluss"))
    refused = stoker(platform, "deploy", path, "--only", "both")
    assert refused.returncode == 1
    assert "no function 'sums-pluss' is deployed here; near names: sums-plus" in refused.stderr
    assert "caused by" not in refused.stderr
    assert ask(platform, "sums-both") == {"n": 7}


def test_a_project_that_lists_nothing_deploys_what_its_setup_makes(
    platform: Platform, folder: Path
) -> None:
    path = project(folder, "made")
    before = Path(path).read_text()
    (folder / "project_setup.py").write_text(SETUP)
    done = stoker(platform, "deploy", path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    names = [one["metadata"]["name"] for one in json.loads(done.stdout)]
    assert names == ["made-plus", "made-both"]  # and not the job
    assert ask(platform, "made-both") == {"n": 7}
    assert Path(path).read_text() == before
    wrong = stoker(platform, "deploy", path, "--only", "bth")
    assert wrong.returncode == 1
    assert "did you mean both?" in wrong.stderr
    (folder / "project_setup.py").write_text("def setup(project):\n    raise ValueError('why')\n")
    broken = stoker(platform, "deploy", path)
    assert broken.returncode == 1
    assert "ValueError: why" in broken.stderr


def test_a_project_in_mlrun_s_own_words_is_deployed_too(platform: Platform, folder: Path) -> None:
    """Entries as mlrun writes them: a file with its kind, a whole object, a job beside them."""
    source = base64.b64encode(CODE.encode()).decode()
    whole = {
        "kind": "remote",
        "metadata": {"name": "whole"},
        "spec": {"build": {"functionSourceCode": source}, "function_handler": "main:handler"},
    }
    path = project(
        folder,
        "written",
        "{name: plus, kind: nuclio, url: fns/plus.py, handler: handler}",
        json.dumps({"name": "whole", "spec": whole}),
        "{name: train, kind: job, url: fns/plus.py}",
        json.dumps({"name": "other", "spec": {"kind": "job"}}),
    )
    done = stoker(platform, "deploy", path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    names = [one["metadata"]["name"] for one in json.loads(done.stdout)]
    assert names == ["written-plus", "written-whole"]
    assert platform.call("written-whole").json() == {"n": 1}
    path = project(folder, "written", "{name: train, kind: job, url: graph.py}")
    jobs = stoker(platform, "deploy", path)
    assert jobs.returncode == 1
    assert "lists nothing that is deployed" in jobs.stderr
