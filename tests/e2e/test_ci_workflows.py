"""The quality gate as pipelines call it: MLRun's workflow, and the steps for GitHub Actions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from live_platform import Platform, home_of_its_own, platform_of_its_own
from mlrun_script import run_script
from prepared_encoder import PreparedEncoder

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "quantize.yml"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, whose embedder serves unquantized yet, with a smaller set and one recipe."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("functions", "graphs", "workflows"):
        ignored = shutil.ignore_patterns("__pycache__", "quality.lock")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("project.yaml", "project_setup.py"):
        shutil.copy(ROOT / name, folder / name)
    embedder = folder / "functions" / "text-embedder"
    config = yaml.safe_load((embedder / "function.yaml").read_text())
    env = {one["name"]: one["value"] for one in config["spec"]["env"]}
    env |= {"STOKER_QUANTIZATION": "none", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    config["spec"]["env"] = [{"name": name, "value": value} for name, value in env.items()]
    (embedder / "function.yaml").write_text(yaml.safe_dump(config))
    declared = yaml.safe_load((embedder / "quality.yaml").read_text())
    pairs = declared["sets"][0] | {"limit": 100, "resamples": 300}
    pairs["metrics"] = [{"name": "spearman", "max_drop": 0.03}]
    declared |= {
        "sets": [pairs],
        "goal": "smallest",
        "candidates": [{"name": "int8", "env": {"STOKER_QUANTIZATION": "int8"}}],
        "canary": {
            "share": 0.3, "length_s": 3, "min_requests": 20, "bounds": {"latency_ratio": None},
        },
    }  # fmt: skip
    (embedder / "quality.yaml").write_text(yaml.safe_dump(declared))
    return folder


@contextmanager
def load_on(url: str) -> Iterator[list[int]]:
    """Requests, one after the other, while the block runs: their statuses."""
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not over.is_set():
                statuses.append(client.post(url, json={"text": "it rained"}).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


DEPLOY = """
project = mlrun.load_project("./", save=False)
project.save_to_db()
project.deploy_function("text-embedder")
"""
QUANTIZE = """
project = mlrun.load_project("./", save=False)
state = project.run("quantize").state
run = [one for one in project.list_runs().to_objects() if "model-quantize" in one.metadata.name][0]
tell(state=str(state), results=run.status.results, artifacts=sorted(run.outputs),
     report=run.artifact("report").get().decode()[:40],
     models=[one.to_dict() for one in project.list_models()])
path, model, _ = mlrun.artifacts.get_model(project.list_models()[0].uri)
tell(manifest=json.load(open(path)))
"""


@pytest.mark.mlrun
@pytest.mark.models
def test_mlruns_workflow_proves_int8_and_rolls_it_out_under_load(
    project: Path, prepared: PreparedEncoder
) -> None:
    with platform_of_its_own() as platform:
        prepared.give(platform.home.root)
        platform.up(zygotes=("plain", "torch"))
        assert platform.endpoints is not None
        url, home = platform.endpoints.control_url, str(platform.home.root)
        gateway = platform.endpoints.gateway_url
        run_script(project, url, DEPLOY)
        before = _function(platform)
        with load_on(f"{gateway}/news-text-embedder") as statuses:
            facts, output = run_script(project, url, QUANTIZE, STOKER_HOME=home)
        assert facts["results"]["verdict"] == "winner", output
        assert facts["results"]["winner"] == "int8"
        assert facts["results"]["spearman_sts-b"] > 0.7
        assert {"report", "recipes", "front", "run", "text-embedder"} <= {*facts["artifacts"]}
        assert facts["report"].startswith("<!doctype html>")
        assert set(statuses) == {200}
        after = _function(platform)
        assert after["status"]["servingRevision"] > before["status"]["servingRevision"]
        assert _env(after)["STOKER_QUANTIZATION"] == "int8"
        assert _env(after)["MLRUN_DEFAULT_PROJECT"] == "news"
        assert after["metadata"]["labels"] == before["metadata"]["labels"]
        (model,) = facts["models"]
        assert model["metadata"]["labels"]["parent"] == "model"
        assert model["spec"]["parameters"]["recipe"] == {"STOKER_QUANTIZATION": "int8"}
        assert model["spec"]["metrics"]["spearman_sts-b"] > 0.7
        assert facts["manifest"]["quantization"] == "int8"
        assert facts["manifest"]["key"] == model["spec"]["parameters"]["key"]

        again, output = run_script(project, url, QUANTIZE, STOKER_HOME=home)
        assert again["results"]["verdict"] == "unchanged", output
        assert again["results"]["words"].startswith("nothing changed since")
        assert _function(platform)["status"]["revision"] == after["status"]["revision"]


def _function(platform: Platform) -> dict[str, Any]:
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api/functions/news-text-embedder"
    found: dict[str, Any] = platform.client.get(url).json()
    return found


def _env(function: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in function["spec"]["env"]}


# -- GitHub Actions

FUNCTION = """\
apiVersion: nuclio.io/v1
kind: Function
metadata: {name: shout}
spec:
  handler: shout:handler
  runtime: python:3.11
  env: [{name: LOUD, value: "1"}]
"""
HANDLER = """\
import os


def handler(context, event):
    loud = os.environ["LOUD"] == "1"
    return {"labels": [text.upper() if loud else text for text in event.body["texts"]]}
"""
QUALITY = """\
reference: {env: {LOUD: "1"}}
candidates:
  - {name: quiet, env: {LOUD: "0"}}
goal: fastest
limits: {latency: 1000}
ask: {body: {texts: $texts}, answer: labels}
sets:
  - name: words
    kind: labels
    source: words.csv
    columns: {text: text, label: label}
    metrics: [{name: accuracy, max_drop: 0.01}]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one function, and what `make venv` needs to see that all is there."""
    for name in (".venv", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "constraints.txt", "weights.txt"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))  # older than what is installed
    folder = tmp_path / "functions" / "shout"
    folder.mkdir(parents=True)
    (folder / "function.yaml").write_text(FUNCTION)
    (folder / "shout.py").write_text(HANDLER)
    (folder / "quality.yaml").write_text(QUALITY)
    rows = "".join(f"word {n},WORD {n}\n" for n in range(40))
    (folder / "words.csv").write_text("text,label\n" + rows)
    return tmp_path


def run_steps(checkout: Path, home: Path, expressions: dict[str, str]) -> list[tuple[str, int]]:
    """The steps of the workflow that are commands, as a runner runs them; each with its status.

    An expression whose value the test has not named is a mistake, here as there.
    """
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    told = {name: _value(str(text), expressions) for name, text in job["env"].items()}
    env = os.environ | told | {"STOKER_HOME": str(home), "STOKER_URL": ""}
    done = []
    for step in job["steps"]:
        if "run" not in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
            continue
        script = _value(step["run"], expressions)
        ran = subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=checkout, env=env)
        done.append((step["name"], ran.returncode))
        if ran.returncode:
            break
    return done


def _value(text: str, expressions: dict[str, str]) -> str:
    return re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda found: expressions[found[1]], text)


IN_A_PULL_REQUEST = {
    "inputs.function || 'text-embedder'": "shout",
    "github.event_name == 'pull_request' && '--no-rollout' || '--rollout'": "--no-rollout",
}


def test_the_steps_for_github_refuse_a_recipe_that_answers_otherwise(checkout: Path) -> None:
    with home_of_its_own() as home:
        done = run_steps(checkout, home, IN_A_PULL_REQUEST)
    assert done == [("Install", 0), ("Quantize, prove, redeploy", 3)]
    report = (checkout / "quality.html").read_text()
    assert "quiet" in report
    assert "refused" in report


def test_the_steps_for_github_pass_when_a_recipe_does(checkout: Path) -> None:
    handler = checkout / "functions" / "shout" / "shout.py"
    handler.write_text(HANDLER.replace(' == "1"', " != 2"))
    with home_of_its_own() as home:
        done = run_steps(checkout, home, IN_A_PULL_REQUEST)
    assert done == [("Install", 0), ("Quantize, prove, redeploy", 0)]
