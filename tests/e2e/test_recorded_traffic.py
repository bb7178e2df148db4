"""Recorded traffic on a whole platform: from a declaration to the report of a replay."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from live_platform import Platform, eventually, platform_of_its_own
from prepared_encoder import PreparedEncoder
from stoker.quality import recorded

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
COUNT = 24


def stoker(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "stoker.cli.main", *words, "--home", str(home)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STOKER_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, env=clean)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def found(*words: str, home: Path, code: int = 0) -> Any:
    """What a verb says with ``--json``."""
    done = stoker(*words, "--json", home=home)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def record(declared: str) -> list[dict[str, str]]:
    return [{"name": "STOKER_RECORD", "value": declared}]


def until_recorded(platform: Platform, name: str, count: int) -> list[Any]:
    """What is recorded once that much is: a thread writes it after the answer."""
    folder = platform.home.function_traffic(name)
    return eventually(lambda: (got := list(recorded.read(folder))) and len(got) >= count and got)  # type: ignore[no-any-return]


# -- a model


def embedder(folder: Path, quantization: str) -> Path:
    """The example's folder, for a CPU."""
    shutil.copytree(FUNCTIONS / "text-embedder", folder)
    file = folder / "function.yaml"
    document = yaml.safe_load(file.read_text())
    del document["spec"]["resources"]
    env = {v["name"]: v["value"] for v in document["spec"]["env"]}
    del env["STOKER_GPU_MEMORY"]
    env |= {"STOKER_QUANTIZATION": quantization, "STOKER_RECORD": "share=1"}
    document["spec"]["env"] = [{"name": k, "value": v} for k, v in env.items()]
    file.write_text(yaml.safe_dump(document))
    return folder


@pytest.mark.models
def test_an_unchanged_model_replays_without_a_difference_and_another_precision_is_seen(
    platform: Platform, prepared: PreparedEncoder, tmp_path: Path
) -> None:
    prepared.give(platform.home.root)
    platform.up(zygotes=("torch",))
    home, name = platform.home.root, "text-embedder"
    done = stoker("deploy", str(embedder(tmp_path / "int8", "int8")), home=home)
    assert done.returncode == 0, done.stderr

    def ask(n: int) -> None:
        texts = [f"text {n} about {'the price of ' * (k + 1)}bread" for k in range(1 + n % 3)]
        body = json.dumps({"texts": texts}).encode()
        reply = platform.call(name, body, **{"content-type": "application/json"})
        assert reply.status_code == 200, reply.text

    with ThreadPoolExecutor(8) as pool:  # together, so that they run in batches of any make-up
        list(pool.map(ask, range(COUNT)))
    until_recorded(platform, name, COUNT)
    held = found("ci", "traffic", name, home=home)
    assert (held["requests"], held["revisions"], held["senders"]) == (
        COUNT,
        {"1": COUNT},
        {"gateway": COUNT},
    )

    same = found("ci", "replay", name, home=home)
    assert (same["sent"], same["different"], same["failed"], same["altered"]) == (COUNT, 0, 0, 0)
    assert same["identical"] + same["within"] == COUNT

    folder = embedder(tmp_path / "fp32", "fp32")
    ignore = ("--ignore", "model")
    other = found("ci", "replay", name, "--candidate", str(folder), *ignore, home=home, code=3)
    assert (other["different"], other["failed"]) == (COUNT, 0)
    apart = [place["distance"] for item in other["items"] for place in item["places"]]
    assert 1e-3 < min(apart) <= max(apart) < 0.05
    assert other["items"][0]["places"][0]["path"].startswith("embeddings[")

    tolerant = ("--tolerance", "0.05", "--limit", "5")
    both = ("--candidate", str(folder), "--against", name)
    near = found("ci", "replay", name, *both, *ignore, *tolerant, home=home)
    assert (near["sent"], near["within"]) == (5, 5)

    assert len(until_recorded(platform, name, COUNT)) == COUNT  # replays are not recorded
    functions = platform.client.get(f"{platform.endpoints.control_url}/api/functions").json()  # type: ignore[union-attr]
    assert list(functions) == [name]


# -- without a model

TELL = """
count = 0

def handler(context, event):
    global count
    count += 1
    if event.path == "/stream":
        return parts()
    if event.path == "/count":
        return {"count": count}
    mail = event.body["mail"]
    return {"mail": mail, "size": len(mail) * SIZE, "n": event.body["n"] * FACTOR}

def parts():
    yield "one "
    yield "two"

FACTOR = 2
SIZE = 0
"""


@pytest.fixture(scope="module")
def live() -> Iterator[Platform]:
    with platform_of_its_own() as platform:
        platform.up()
        yield platform


def send(platform: Platform, name: str, body: Any, path: str = "") -> Any:
    raw = json.dumps(body).encode()
    return platform.call(f"{name}{path}", raw, **{"content-type": "application/json"})


def again(platform: Platform, name: str, code: str, declared: str) -> None:
    """The next revision of a function."""
    assert platform.endpoints is not None
    url = f"{platform.endpoints.control_url}/api/functions/{name}"
    document = platform.client.get(url).json()
    document["spec"]["build"] = {"functionSourceCode": base64.b64encode(code.encode()).decode()}
    document["spec"]["env"] = record(declared)
    wait = {"X-Nuclio-Wait-Function-Action": "true"}
    put = platform.client.put(url, json=document, headers=wait)
    assert put.status_code == 202, put.text


def test_what_was_redacted_is_nowhere_and_still_replays(live: Platform, tmp_path: Path) -> None:
    home = live.home.root
    live.deploy("tell", TELL, env=record("share=1,hash=mail"))
    for n in range(6):
        assert send(live, "tell", {"mail": f"ann{n % 2}@home", "n": n}).status_code == 200
    got = until_recorded(live, "tell", 6)
    assert len({json.loads(one.request.body)["mail"] for one in got}) == 2
    folder = live.home.function_traffic("tell")
    assert not any(b"@home" in path.read_bytes() for path in folder.iterdir())

    report = tmp_path / "report.md"
    same = found("ci", "replay", "tell", "--against", "tell", "--report", str(report), home=home)
    assert (same["identical"], same["redacted"]) == (6, 6)
    assert report.read_text().startswith("# Replay of tell: no differences: 6 of 6")
    assert found("ci", "replay", "tell", home=home)["identical"] == 6

    again(live, "tell", TELL.replace("SIZE = 0", "SIZE = 1"), "share=1,hash=mail")
    done = stoker("ci", "replay", "tell", home=home)
    assert done.returncode == 1
    assert "nothing was compared (6 cannot be compared)" in done.stdout


def test_a_changed_revision_is_told_apart_by_its_answers(live: Platform, tmp_path: Path) -> None:
    home = live.home.root
    declared = "share=1,ignore=count"
    live.deploy("told", TELL, env=record(declared))
    for n in range(4):
        send(live, "told", {"mail": "a", "n": n})
    send(live, "told", {}, "/count")
    send(live, "told", {}, "/stream")
    until_recorded(live, "told", 6)
    same = found("ci", "replay", "told", home=home)
    assert (same["identical"], same["sent"]) == (6, 6)

    again(live, "told", TELL.replace("FACTOR = 2", "FACTOR = 3"), declared)
    done = stoker("ci", "replay", "told", "--report", str(tmp_path / "r.json"), home=home)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "3 of 6 answers differ" in done.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["different"], report["identical"]) == (3, 3)
    assert report["items"][0]["places"][0] == {
        "path": "n",
        "baseline": "2",
        "candidate": "3",
        "distance": pytest.approx(1 / 3),
    }
    assert found("ci", "replay", "told", "--against", "1", home=home, code=3)["sent"] == 6
    assert stoker("ci", "replay", "told", "--against", "2", home=home).returncode == 1


def test_who_looks_sees_that_a_function_records_and_it_can_be_forgotten(live: Platform) -> None:
    home = live.home.root
    live.deploy("seen", env=record("share=1"))
    live.deploy("unseen")
    live.call("seen", b"x")
    live.call("unseen", b"x")
    until_recorded(live, "seen", 1)
    assert not live.home.function_traffic("unseen").exists()
    listed = stoker("ls", home=home).stdout
    assert "seen: 100 % of its requests are recorded" in listed
    assert "unseen:" not in listed
    assert "1 requests of seen are recorded" in stoker("doctor", home=home).stdout
    assert found("ci", "traffic", "seen", "--forget", home=home)["forgotten_bytes"] > 0
    assert found("ci", "traffic", "seen", home=home)["requests"] == 0
    live.call("seen", b"y")
    until_recorded(live, "seen", 1)
    assert stoker("rm", "seen", home=home).returncode == 0
    eventually(lambda: not live.home.function_traffic("seen").exists())


def test_a_wrong_declaration_is_refused_at_the_deploy(live: Platform) -> None:
    assert live.endpoints is not None
    document = {"metadata": {"name": "wrong"}, "spec": {"env": record("share=7")}}
    url = f"{live.endpoints.control_url}/api/functions"
    refused = live.client.post(url, json=document)
    assert refused.status_code == 400
    assert "STOKER_RECORD" in refused.text


def test_what_cannot_be_replayed_says_why(live: Platform, tmp_path: Path) -> None:
    home = live.home.root
    nothing = stoker("ci", "replay", "nobody", home=home)
    assert nothing.returncode == 1
    assert "nothing is recorded of nobody" in nothing.stderr
    live.deploy("gone", env=record("share=1"))
    live.call("gone", b"x")
    until_recorded(live, "gone", 1)
    copy = shutil.copytree(live.home.function_traffic("gone"), tmp_path / "copy")
    there = f"http://127.0.0.1:{_closed_port()}"
    words = ("--record", str(copy), "--against", there)
    failed = found("ci", "replay", "gone", *words, home=home, code=3)
    assert failed["failed"] == 1
    assert there in failed["items"][0]["error"]


def _closed_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- a graph


@pytest.mark.mlrun
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_graph_and_each_of_its_steps_have_a_recording_of_their_own(platform: Platform) -> None:
    pytest.importorskip("mlrun")
    from graph_platform import GraphPlatform

    platform.up(zygotes=("plain", "mlrun"))
    here = GraphPlatform(platform)
    try:
        here.function("told", TELL, env=record("share=1"))

        def build(flow: Any) -> None:
            step = flow.to("$remote", "first", url="told", method="POST")
            step.to("$remote", "second", url="told", method="POST").respond()

        here.graph("flow", build, env=record("share=1"))
        for n in range(3):
            assert here.ask("flow", {"mail": "a", "n": n}).json()["n"] == 4 * n
    finally:
        here.close()
    home = platform.home.root
    steps = until_recorded(platform, "p-told", 6)
    assert sorted({(one.via, one.step) for one in steps}) == [
        ("graph", "p-flow/first"),
        ("graph", "p-flow/second"),
    ]
    until_recorded(platform, "p-flow", 3)
    whole = found("ci", "replay", "p-flow", home=home)
    assert (whole["sent"], whole["identical"]) == (3, 3)
    second = found("ci", "replay", "p-told", "--step", "p-flow/second", home=home)
    assert (second["sent"], second["identical"]) == (3, 3)
