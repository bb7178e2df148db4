"""Graphs of mlrun with queues between functions, deployed by its unmodified SDK."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform, eventually, platform_of_its_own
from mlrun_script import run_script

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun]

PARENT = """
def enrich(body):
    body["enriched"] = True
    return body
"""
CHILD = """
import os

def note(text):
    handle = os.open(os.environ["OUT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{text}\\n".encode())
    os.close(handle)

class Score:
    def __init__(self, context=None, name=None, **arguments):
        self.name = name

    def do(self, body):
        if body.get("kill"):
            os._exit(9)
        if body.get("bad"):
            raise ValueError("a bad record")
        note(f"{self.name} {body['i']} {body.get('enriched')}")
        return body
"""
DEPLOY = """
def deploy(name, engine, **arguments):
    host = os.environ["MLRUN_DBPATH"].partition("://")[2]
    project = mlrun.get_or_create_project("queues", context="./", allow_cross_project=True)
    fn = project.set_function("parent.py", name=name, kind="serving", image="mlrun/mlrun")
    graph = fn.set_topology("flow", engine=engine)
    step = graph.to(name="enrich", handler="enrich")
    step = step.to("$queue", "q", path=f"v3io://{host}/projects/queues/{name}", **arguments)
    step.to("Score", "score", function="score")
    child = fn.add_child_function("score", "child.py", "mlrun/mlrun")
    child.set_env("OUT", os.path.abspath(name + ".txt"))
    tell(state=project.deploy_function(fn).state)
    return fn
"""
QUICK = {"extra_attributes": {"maxTries": 2, "retryIntervalMs": 50}}


@pytest.fixture(scope="module")
def live() -> Iterator[Platform]:
    """A platform of the module's own, with what graphs need."""
    with platform_of_its_own() as platform:
        platform.up(zygotes=("plain", "mlrun"))
        yield platform


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "child.py").write_text(CHILD)
    return tmp_path


def run(live: Platform, work: Path, script: str) -> dict[str, Any]:
    """A client that sets nothing but where the platform is, and any access key."""
    assert live.endpoints is not None
    told, _ = run_script(
        work, live.endpoints.control_url, DEPLOY + textwrap.dedent(script), V3IO_ACCESS_KEY="any"
    )
    return told


def stream(live: Platform, name: str, rest: str = "") -> dict[str, Any]:
    assert live.endpoints is not None
    url = f"{live.endpoints.control_url}/api/streams/projects/queues/{name}{rest}"
    found: dict[str, Any] = live.client.get(url).json()
    return found


def done(live: Platform, name: str) -> bool:
    (group,) = stream(live, name)["groups"]
    return bool(group["lag"] == group["pending"] == 0)


def lines(work: Path, name: str) -> list[str]:
    file = work / f"{name}.txt"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("engine", ["async", "sync"])
def test_events_cross_a_queue_in_order_and_are_done(
    live: Platform, work: Path, engine: str
) -> None:
    told = run(
        live,
        work,
        f"""
        fn = deploy("cross-{engine}", "{engine}")
        tell(answers=[fn.invoke("/", {{"i": i}}) for i in range(20)], url=fn.get_url())
        """,
    )
    name = f"cross-{engine}"
    assert told["state"] == "ready"
    eventually(lambda: len(lines(work, name)) == 20 and done(live, name))
    assert lines(work, name) == [f"score {i} True" for i in range(20)]
    (group,) = stream(live, name)["groups"]
    assert group["functions"] == [f"queues-{name}-score"]
    assert group["dead"] == 0


def test_a_call_by_http_keeps_no_record_from_being_done(live: Platform, work: Path) -> None:
    """mlrun's runtime acknowledges what came by HTTP too, which is no record of any shard."""
    assert live.endpoints is not None
    run(live, work, 'deploy("called", "async")')
    curious = live.client.post(f"{live.endpoints.gateway_url}/queues-called-score", json={"i": -1})
    assert curious.is_success, curious.text
    run(live, work, """
        fn = mlrun.get_or_create_project("queues", context="./").get_function("called")
        for i in range(5):
            fn.invoke("/", {"i": i})
        """)  # fmt: skip
    eventually(lambda: done(live, "called"))
    assert sorted(lines(work, "called"))[1:] == [f"score {i} True" for i in range(5)]


@pytest.mark.parametrize("engine", ["async", "sync"])
def test_a_failing_step_is_tried_again_and_given_up(
    live: Platform, work: Path, engine: str
) -> None:
    name = f"failing-{engine}"
    run(
        live,
        work,
        f"""
        fn = deploy("{name}", "{engine}", trigger_args={QUICK!r})
        for body in ({{"i": 1}}, {{"i": 2, "bad": True}}, {{"i": 3}}):
            fn.invoke("/", body)
        """,
    )
    eventually(lambda: done(live, name) and stream(live, name)["groups"][0]["dead"] == 1)
    assert lines(work, name) == ["score 1 True", "score 3 True"]
    (letter,) = stream(live, name, "/dead")["dead"]
    assert letter["tries"] == 2
    assert "ValueError: a bad record" in letter["reason"]


def test_an_event_that_kills_its_worker_in_an_async_graph_is_given_up(
    live: Platform, work: Path
) -> None:
    run(
        live,
        work,
        f"""
        fn = deploy("deadly", "async", trigger_args={QUICK!r})
        for body in ({{"i": 1}}, {{"i": 2, "kill": True}}, {{"i": 3}}):
            fn.invoke("/", body)
        """,
    )
    eventually(
        lambda: stream(live, "deadly")["groups"][0]["dead"] >= 1 and done(live, "deadly"),
        within_s=60,
    )
    dead = [letter["text"] for letter in stream(live, "deadly", "/dead")["dead"]]
    assert any('"kill": true' in text for text in dead)
    # Whatever the dead worker took with it besides is done, or is a dead letter, but never lost.
    written = {line.split()[1] for line in lines(work, "deadly")}
    assert all(f"{i}" in written or any(f'"i": {i}' in t for t in dead) for i in (1, 3))


def test_events_that_a_redeployed_graph_holds_are_not_lost(live: Platform, work: Path) -> None:
    run(
        live,
        work,
        """
        fn = deploy("again", "async")
        for i in range(30):
            fn.invoke("/", {"i": i})
        fn = deploy("again", "async")
        for i in range(30, 60):
            fn.invoke("/", {"i": i})
        """,
    )
    eventually(lambda: done(live, "again") and len({*lines(work, "again")}) == 60)


@pytest.mark.timeout(180)
def test_events_whose_worker_is_killed_are_not_lost(live: Platform, work: Path) -> None:
    run(
        live,
        work,
        """
        fn = deploy("killed", "async")
        for i in range(40):
            fn.invoke("/", {"i": i})
        """,
    )
    assert live.endpoints is not None
    rows = live.client.get(f"{live.endpoints.control_url}/api/stoker/ps").json()["replicas"]
    (mine,) = [row for row in rows if row["function"] == "queues-killed-score"]
    os.kill(mine["workers"][0]["pid"], signal.SIGKILL)
    eventually(lambda: done(live, "killed") and len({*lines(work, "killed")}) == 40, within_s=90)


def test_two_queues_in_a_row(live: Platform, work: Path) -> None:
    run(
        live,
        work,
        """
        host = os.environ["MLRUN_DBPATH"].partition("://")[2]
        project = mlrun.get_or_create_project("queues", context="./", allow_cross_project=True)
        fn = project.set_function("parent.py", name="long", kind="serving", image="mlrun/mlrun")
        step = fn.set_topology("flow", engine="async").to(name="enrich", handler="enrich")
        for name in ("one", "two"):
            path = f"v3io://{host}/projects/queues/long-{name}"
            step = step.to("$queue", f"q-{name}", path=path, shards=2)
            step = step.to("Score", f"s-{name}", function=name)
            child = fn.add_child_function(name, "child.py", "mlrun/mlrun")
            child.set_env("OUT", os.path.abspath("long.txt"))
        tell(state=project.deploy_function(fn).state)
        for i in range(10):
            fn.invoke("/", {"i": i})
        """,
    )
    eventually(lambda: len(lines(work, "long")) >= 20 and done(live, "long-two"))
    assert sorted(lines(work, "long")) == sorted(
        f"s-{name} {i} True" for name in ("one", "two") for i in range(10)
    )


def test_an_error_stream_takes_what_an_async_graph_could_not_do(live: Platform, work: Path) -> None:
    """mlrun holds a failed event of an async graph for done; its errors go to this stream."""
    run(
        live,
        work,
        """
        host = os.environ["MLRUN_DBPATH"].partition("://")[2]
        project = mlrun.get_or_create_project("queues", context="./", allow_cross_project=True)
        fn = project.set_function("child.py", name="errors", kind="serving", image="mlrun/mlrun")
        fn.set_topology("flow", engine="async").to("Score", "score")
        fn.spec.error_stream = f"v3io://{host}/projects/queues/errors"
        tell(state=project.deploy_function(fn).state)
        fn.invoke("/", {"i": 1, "bad": True})
        """,
    )
    found = eventually(lambda: stream(live, "errors", "/records").get("records"))
    assert "a bad record" in found[0]["text"]


def test_without_an_access_key_the_client_says_what_is_missing(live: Platform, work: Path) -> None:
    assert live.endpoints is not None
    told, _ = run_script(
        work,
        live.endpoints.control_url,
        DEPLOY + "tell(error=refused(deploy, 'keyless', 'async'))",
    )
    assert "V3IO_ACCESS_KEY" in told["error"]
