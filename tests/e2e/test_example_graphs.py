"""The example project, deployed by mlrun's own SDK: real texts in, real answers out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually, platform_of_its_own
from prepared_encoder import PreparedEncoder

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun, pytest.mark.models, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("news_client.py")
PARTS = ("project.yaml", "project_setup.py", "functions", "graphs", "workflows")
NEWS = (
    "Shares in the airline fell sharply after it warned that fuel prices would hit its profits. "
    "The finance minister said the economy would grow by three per cent this year. "
    "The striker scored twice as the champions came from behind to win the cup final."
)


class News:
    """A platform, and a copy of the project that mlrun may write to."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform = platform
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)

    def client(self, verb: str) -> Any:
        """What the user saw."""
        assert self.platform.endpoints is not None
        said = self.run(
            str(CLIENT), verb,
            MLRUN_DBPATH=self.platform.endpoints.control_url, MLRUN_IGNORE_ENV_FILE="1",
        )  # fmt: skip
        return json.loads(said.splitlines()[-1])

    def run(self, *arguments: str, **variables: str) -> str:
        """What Python printed, in the project's folder."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLRUN", "V3IO"))}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            cwd=self.folder, env=inherited | variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.platform.logs()}"
        return done.stdout

    def ask(self, name: str, body: dict[str, Any], path: str = "") -> Any:
        assert self.platform.endpoints is not None
        url = f"{self.platform.endpoints.gateway_url}/news-{name}{path}"
        return self.platform.client.post(url, json=body)


@pytest.fixture(scope="module")
def news(prepared: PreparedEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[News]:
    """The whole project, deployed once for all tests."""
    with platform_of_its_own() as platform:
        prepared.give(platform.home.root)
        platform.client.timeout = 120
        platform.up(devices="sim:1x16GiB", zygotes=("plain", "mlrun"))
        made = News(platform, tmp_path_factory.mktemp("news"))
        made.endpoints = made.client("deploy")  # type: ignore[attr-defined]
        yield made


def test_every_function_and_graph_of_the_project_is_deployed(news: Any) -> None:
    assert news.platform.endpoints is not None
    gateway = news.platform.endpoints.gateway_url
    assert news.endpoints == {
        name: f"{gateway}/news-{name}/"
        for name in (
            "text-preprocess", "text-embedder", "text-classify", "text-classification",
            "champion-challenger", "streaming-sentences", "queue-classification",
        )
    }  # fmt: skip


def test_text_classification_goes_through_three_functions(news: News) -> None:
    texts = [f"{sentence}." for sentence in NEWS.rstrip(".").split(". ")]
    reply = news.ask("text-classification", {"texts": [f"<p>{text}</p>" for text in texts]})
    assert reply.status_code == 200, reply.text
    predictions = reply.json()["predictions"]
    assert [one["text"] for one in predictions] == texts
    assert predictions[0]["label"] == "business"
    assert predictions[2]["label"] == "sports"
    refused = news.ask("text-classification", {"texts": []})
    assert refused.status_code == 400
    assert "texts must be a list" in refused.text


def test_the_router_gives_the_challenger_its_share(news: News) -> None:
    asked = [{"inputs": [f"The striker scored {goals} times"]} for goals in range(40)]
    replies = [news.ask("champion-challenger", body).json() for body in asked]
    models = [one["model_name"] for one in replies]
    assert set(models) == {"champion", "challenger"}
    assert models.count("champion") > models.count("challenger")
    assert all(one["outputs"][0]["label"] == "sports" for one in replies)
    named = news.ask("champion-challenger", asked[0], "/v2/models/challenger/infer")
    assert named.json()["model_name"] == "challenger"
    refused = news.ask("champion-challenger", {"inputs": [3]}, "/v2/models/champion/infer")
    assert refused.status_code == 400


def test_sentences_stream_as_they_are_done(news: News) -> None:
    assert news.platform.endpoints is not None
    url = f"{news.platform.endpoints.gateway_url}/news-streaming-sentences"
    body = {"text": NEWS, "query": "football"}
    with news.platform.client.stream("POST", url, json=body) as reply:
        assert reply.status_code == 200
        assert reply.headers["transfer-encoding"] == "chunked"
        lines = [json.loads(line) for line in reply.iter_lines()]
    assert " ".join(line["sentence"] for line in lines) == NEWS
    nearest = max(lines, key=lambda line: line["nearness"])
    assert nearest["sentence"].startswith("The striker")
    refused = news.ask("streaming-sentences", {"text": NEWS})
    assert "the body must be JSON" in refused.text


def test_a_queued_text_is_answered_at_once_and_classified_later(news: News) -> None:
    receipts = [
        news.ask("queue-classification", {"text": f"{sentence}."}).json()
        for sentence in NEWS.rstrip(".").split(". ")
    ]
    assert all(receipt.keys() == {"id"} for receipt in receipts)
    wanted = {receipt["id"] for receipt in receipts}

    def results() -> dict[str, Any] | None:
        assert news.platform.endpoints is not None
        streams = f"{news.platform.endpoints.control_url}/api/streams"
        found = news.platform.client.get(f"{streams}/projects/news/queues/results/records")
        rows = [json.loads(one["text"]) for one in found.json().get("records", [])]
        by_id = {row["id"]: row for row in rows}
        return by_id if wanted <= by_id.keys() else None

    by_id = eventually(results, within_s=60)
    labels = [by_id[receipt["id"]]["label"] for receipt in receipts]
    assert (labels[0], labels[2]) == ("business", "sports")
    refused = news.ask("queue-classification", {"text": ""})
    assert refused.status_code == 400
    assert "the body must be JSON" in refused.text


def test_everything_goes_to_zero_and_comes_back(news: News) -> None:
    assert news.platform.endpoints is not None
    control = news.platform.endpoints.control_url
    for name in ("text-embedder", "champion-challenger", "streaming-sentences"):
        url = f"{control}/api/functions/news-{name}"
        patched = news.platform.client.patch(url, json={"desiredState": "scaledToZero"})
        assert patched.status_code == 202, patched.text
        eventually(
            lambda url=url: (
                news.platform.client.get(url).json()["status"]["state"] == "scaledToZero"
            )
        )
    reply = news.ask("champion-challenger", {"inputs": ["A goal in the last minute"]})
    assert reply.headers["x-stoker-cold"] == "1"
    assert reply.json()["outputs"][0]["label"] == "sports"
    again = news.ask("text-classification", {"text": NEWS})
    assert again.status_code == 200, again.text


def test_a_job_and_the_workflow_measure_what_is_deployed(news: News) -> None:
    seen = news.client("evaluate")
    assert seen["state"] == "completed"
    assert seen["results"]["texts"] == 20
    assert seen["results"]["accuracy"] >= 0.8
    assert "<td" in seen["confusion"]
    assert seen["workflow"] == "Succeeded"
    assert [one["texts"] for one in seen["of_workflow"]] == [20]
    assert any(key.endswith("confusion") for key in seen["artifacts"])


@pytest.mark.parametrize("written_by", ["us", "mlrun"])
def test_the_command_line_deploys_the_same_functions(news: Any, written_by: str) -> None:
    """MLRun's client has written all that it loaded into the copy's project.yaml by now."""
    file = (ROOT if written_by == "us" else news.folder) / "project.yaml"
    assert ("functionSourceCode" in file.read_text()) == (written_by == "mlrun")
    home = str(news.platform.home.root)
    done = news.run("-m", "stoker.cli.main", "deploy", str(file), "--json", "--home", home)
    deployed = {one["metadata"]["name"]: one["status"]["state"] for one in json.loads(done)}
    assert deployed == {f"news-{name}": "ready" for name in news.endpoints}
    reply = news.ask("text-classification", {"text": NEWS})
    assert reply.status_code == 200, reply.text


def test_the_page_about_mlrun_does_what_it_says(news: News) -> None:
    """Its blocks, one after the other; `stoker.local` finds the platform that runs here."""
    page = (ROOT / "docs" / "mlrun.md").read_text()
    script = ["import stoker"]
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if file := re.match(r"# (\S+\.py)\n", block):
            path = news.folder / file[1]
            path.parent.mkdir()
            path.write_text(block)
        else:
            script.append(block)
    assert len(script) == 6
    script.append(
        "print()\n"
        "print([hello.invoke('/', body={'name': 'you'}), answer['predictions'][0]['label'],"
        " run.status.results['texts'], confusion[:5], str(main.state), platform.started])"
    )
    home = news.platform.home.root
    said = news.run("-c", "\n".join(script), STOKER_HOME=str(home), HOME=str(home))
    assert said.splitlines()[-1] == str(
        [{"greeting": "hello you"}, "sports", 20, b"<meta", "Succeeded", False]
    )
