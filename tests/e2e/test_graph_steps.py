"""Remote steps of deployed graphs: as mlrun's own over HTTP, and what HTTP cannot do."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("mlrun")

from graph_platform import GraphPlatform, timed
from live_platform import Platform, eventually, platform_of_its_own

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.mlrun,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

TELL = """
def handler(context, event):
    body = event.body.decode() if isinstance(event.body, bytes) else event.body
    headers = {name.lower(): value for name, value in event.headers.items()}
    headers["mlrun-event-id"] = ""
    return {"got": body, "method": event.method, "path": event.path, "headers": headers}
"""
STOCK = """
from mlrun.serving.remote import RemoteStep

class Stock(RemoteStep):
    pass
"""
SLEEPS = """
import asyncio, os, time
async def handler(context, event):
    open(os.environ["TOLD"] + ".begun", "a").close()
    try:
        await asyncio.sleep(float(event.body))
        return "slept"
    except asyncio.CancelledError:
        open(os.environ["TOLD"], "w").close()
        raise
"""


@pytest.fixture(scope="module")
def here() -> Iterator[GraphPlatform]:
    """One platform for all tests of this file that need nothing of their own."""
    with platform_of_its_own() as platform:
        platform.up(zygotes=("plain", "mlrun"))
        made = GraphPlatform(platform)
        made.function("tell", TELL, triggers={"http": {"kind": "http", "numWorkers": 2}})
        yield made
        made.close()


def remote(name: str = "s", **arguments: Any) -> dict[str, Any]:
    return {"class_name": "$remote", "name": name, "method": "POST", **arguments}


def env(**values: Any) -> list[dict[str, str]]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]


@pytest.mark.parametrize("engine", ["async", "sync"])
def test_mlruns_own_step_and_ours_are_the_same_to_client_and_function(
    here: GraphPlatform, engine: str
) -> None:
    answers = {}
    for kind, class_name in (("stock", "Stock"), ("ours", "$remote")):
        name = f"{kind}-{engine}"
        step = {"url": "p/tell", "subpath": "sub/path", "headers": {"X-Mine": "1"}}
        here.graph(
            name,
            lambda flow, c=class_name, s=step: flow.to(
                **{**remote(**s), "class_name": c}
            ).respond(),
            code=STOCK,
            engine=engine,
        )
        answers[kind] = here.ask(name, {"text": "Zürich", "n": [1, None]}, "/in/x?y=1")
    ours, stock = answers["ours"], answers["stock"]
    assert ours.status_code == stock.status_code == 200
    seen, theirs = ours.json(), stock.json()
    for document in (seen, theirs):
        # That of requests, which sync graphs use, names more encodings than we take off.
        assert "gzip, deflate" in document["headers"].pop("accept-encoding")
    assert seen == theirs
    assert seen["path"] == "/sub/path"
    assert ours.headers.keys() == stock.headers.keys()


def test_functions_are_found_by_every_kind_of_name(here: GraphPlatform) -> None:
    def build(flow: Any) -> None:
        step = flow.to(**remote("a", url="tell", result_path="a"))
        step = step.to(**remote("b", url="p/tell", result_path="b"))
        step = step.to(**remote("c", url=f"{here.gateway_url}/p-tell/x", result_path="c"))
        target = {"X-Nuclio-Target": "p-tell"}
        step = step.to(**remote("d", url=here.gateway_url, headers=target, result_path="d"))
        fn = "mlrun.serving.remote.RemoteFunctionStep"
        step = step.to(fn, "e", fn="tell", project_name="p", method="POST", result_path="e")
        step.to(fn, "f", fn="p/tell", method="POST", result_path="f").respond()

    here.graph("names", build)
    answer = here.ask("names", {"n": 1}).json()
    assert [answer[name]["path"] for name in "abcdef"] == ["/", "/", "/x", "/", "/", "/"]


def test_requests_go_out_in_a_batch(here: GraphPlatform) -> None:
    batch = "mlrun.serving.remote.BatchHttpRequests"
    here.graph(
        "batch",
        lambda flow: flow.to(
            batch, "b", url="p/tell", input_path="all", result_path="got"
        ).respond(),
    )
    answer = here.ask("batch", {"all": [{"n": n} for n in range(5)]}).json()
    assert [one["got"]["n"] for one in answer["got"]] == list(range(5))


def test_an_url_elsewhere_goes_by_plain_http(here: GraphPlatform) -> None:
    seen: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/away"
    for engine in ("async", "sync"):
        here.graph(
            f"away-{engine}",
            lambda flow: flow.to(**remote("a", url=url)).to(**remote("b", url="p/tell")).respond(),
            engine=engine,
        )
        assert here.ask(f"away-{engine}", {"n": 1}).json()["got"] == {"n": 1}
    server.shutdown()
    server.server_close()
    assert seen == ["/away", "/away"]


def test_a_function_that_is_not_there_fails_the_start_of_the_graph(here: GraphPlatform) -> None:
    with pytest.raises(AssertionError, match="p-nobody"):
        here.graph("lost", lambda flow: flow.to(**remote(url="p/nobody")).respond())


def test_the_deadline_travels_and_a_cancelled_call_is_told(
    here: GraphPlatform, tmp_path: Path
) -> None:
    here.function("sleeps", SLEEPS, env=env(TOLD=tmp_path / "told"))
    here.graph("waits", lambda flow: flow.to(**remote(url="p/sleeps")).respond())
    assert here.ask("waits", 0.01).status_code == 400, "the answer is no JSON"
    reply, took = timed(lambda: here.ask("waits", 60, **{"X-Request-Timeout": "0.7"}))
    assert reply.status_code == 408
    assert took < 10
    eventually((tmp_path / "told").exists)


def test_a_client_that_leaves_cancels_what_runs_further_down(
    here: GraphPlatform, tmp_path: Path
) -> None:
    here.function("naps", SLEEPS, env=env(TOLD=tmp_path / "told"))
    here.graph("hurried", lambda flow: flow.to(**remote(url="p/naps")).respond())
    url, patience = f"{here.gateway_url}/p-hurried", httpx.Timeout(10, read=0.7)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=60, timeout=patience, trust_env=False)
    eventually((tmp_path / "told").exists)


def test_a_chain_of_graphs_ends_at_the_deadline(here: GraphPlatform, tmp_path: Path) -> None:
    here.function("deep", SLEEPS, env=env(TOLD=tmp_path / "told"))
    target = "p/deep"
    for depth in range(4):
        here.graph(
            f"level-{depth}", lambda flow, t=target: flow.to(**remote(url=t, retries=0)).respond()
        )
        target = f"p/level-{depth}"
    reply, took = timed(lambda: here.ask("level-3", 60, **{"X-Request-Timeout": "1.5"}))
    assert reply.status_code == 408
    assert took < 10
    eventually((tmp_path / "told").exists)


def test_a_worker_killed_at_a_call_is_a_failure_of_that_call_only(
    here: GraphPlatform, tmp_path: Path
) -> None:
    here.function("victim", SLEEPS, env=env(TOLD=tmp_path / "told"))
    here.graph(
        "hurt",
        lambda flow: flow.to(**remote(url="p/victim", retries=0, return_json=False)).respond(),
    )
    assert here.ask("hurt", 0.01).text == "slept"
    (tmp_path / "told.begun").unlink()
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(here.ask("hurt", 30)))
    asking.start()
    eventually((tmp_path / "told.begun").exists)
    (pid,) = here.workers("victim")
    os.kill(pid, signal.SIGKILL)
    asking.join(20)
    assert answers[0].status_code == 400
    assert "bad http response 502" in answers[0].text
    assert "worker_lost" in answers[0].text
    assert here.ask("hurt", 0.01).text == "slept", "a new worker serves the next call"


def test_a_call_wakes_a_function_and_keeps_it_while_it_runs(
    here: GraphPlatform, tmp_path: Path
) -> None:
    window = {"metricName": "processed_events", "windowSize": "1s", "threshold": 0}
    here.function(
        "dozes",
        SLEEPS,
        env=env(TOLD=tmp_path / "told"),
        minReplicas=0,
        maxReplicas=1,
        scaleToZero={"scaleResources": [window]},
    )
    here.graph("wakes", lambda flow: flow.to(**remote(url="p/dozes", return_json=False)).respond())
    eventually(lambda: not here.workers("dozes"))
    # Four windows long: it would be at zero three times over.
    assert here.ask("wakes", 4).text == "slept"
    assert not (tmp_path / "told").exists()
    eventually(lambda: not here.workers("dozes"))


def test_chunks_pass_through_as_they_come(here: GraphPlatform) -> None:
    here.function(
        "drips",
        "import time\n"
        "def handler(context, event):\n"
        "    def drops():\n"
        "        for number in range(3):\n"
        "            yield f'{number} {time.time()}\\n'\n"
        "            time.sleep(0.4)\n"
        "    return drops()\n",
    )
    build = lambda flow: flow.to(**remote(url="p/drips", return_json=False)).respond()  # noqa: E731
    here.graph("streams", build, streaming=True)
    here.graph("gathers", build)
    arrivals = []
    with here.data.stream("POST", f"{here.gateway_url}/p-streams", json={}) as reply:
        assert reply.headers["transfer-encoding"] == "chunked"
        for line in reply.iter_lines():
            arrivals.append((line[:1], time.time() - float(line[2:])))
    assert [number for number, _ in arrivals] == ["0", "1", "2"]
    assert arrivals[0][1] < 0.4, "before the next one was made"
    gathered = here.ask("gathers", {})
    assert "content-length" in gathered.headers
    assert [line[:1] for line in gathered.text.splitlines()] == ["0", "1", "2"]


def test_what_a_flow_still_holds_is_sent_on_when_its_worker_stops(
    here: GraphPlatform, tmp_path: Path
) -> None:
    code = (
        f"def keep(body):\n    open({str(tmp_path / 'kept')!r}, 'a').write(str(body))\n"
        "    return body\n"
    )

    def build(flow: Any) -> None:
        flow.to("storey.Batch", "many", max_events=100).to(name="keep", handler="keep")

    here.graph("holds", build, code=code, minReplicas=0, maxReplicas=1)
    assert here.ask("holds", {"n": 7}).status_code == 200
    assert not (tmp_path / "kept").exists()
    here.control.patch(
        f"{here.control_url}/api/functions/p-holds", json={"desiredState": "scaledToZero"}
    )
    eventually((tmp_path / "kept").exists)
    assert '"body": {"n": 7}' in (tmp_path / "kept").read_text()


def test_a_platform_with_keys_needs_none_in_its_graphs(platform: Platform) -> None:
    platform.up(zygotes=("plain", "mlrun"), data_keys=("sesame-42",), control_keys=("other-42",))
    keyed = GraphPlatform(platform, control_key="other-42", data_key="sesame-42")
    keyed.function("tell", TELL)
    caller = (
        "import nuclio_sdk\n"
        "def handler(context, event):\n"
        "    called = nuclio_sdk.Event(body={'n': 1}, method='POST')\n"
        "    return context.platform.call_function('p-tell', called).body\n"
    )
    keyed.function("calls", caller)
    for engine in ("async", "sync"):
        keyed.graph(
            f"keyed-{engine}",
            lambda flow: flow.to(**remote(url="p/tell")).respond(),
            engine=engine,
        )
        assert keyed.ask(f"keyed-{engine}", {"n": 1}).json()["got"] == {"n": 1}
    assert keyed.ask("calls", {}).json()["got"] == {"n": 1}
    assert httpx.post(f"{keyed.gateway_url}/p-tell", trust_env=False).status_code == 401
    listed = keyed.control.get(f"{keyed.control_url}/api/functions").text
    logs = "".join(path.read_text() for path in platform.home.logs.rglob("*.log"))
    seen = json.dumps(keyed.ask("tell", {}).json())
    assert "sesame-42" not in listed + logs + seen
    keyed.close()
