"""A real MLRun API server of another version drives Stoker's Nuclio API.

Run by hand, because it needs a Python and packages of that version; no test starts it:

    python3.9 -m venv /tmp/mlrun-api && /tmp/mlrun-api/bin/pip install 'mlrun[api]==1.5.2'
    .venv/bin/python tests/compat/real_mlrun_server.py --python /tmp/mlrun-api/bin/python

It starts a Stoker, a recorder in front of its control port, the MLRun server with SQLite and Nuclio
as its follower, and then ``real_mlrun/client_trial.py`` as that server's client. It prints every
request that reached the control port and what came of each step, and exits with 1 if a step failed.

From 1.6 on the server is not on PyPI: check MLRun's source out, install its requirements and those of
``dockerfiles/mlrun-api``, and add ``--package server.api --env PYTHONPATH=<checkout>``.
With ``--direct`` there is no server: the older client speaks to Stoker's own MLRun API.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "real_mlrun"))
sys.path.insert(0, str(HERE.parent.parent / "platform"))

import empty_kubernetes  # noqa: E402
from recording_proxy import Asked, Recorder  # noqa: E402

from stoker.app import up  # noqa: E402
from stoker.app.down import down  # noqa: E402
from stoker.app.settings import UpSettings  # noqa: E402
from stoker.nouns.home import Home  # noqa: E402

SERVER_WITHIN_S = 120.0
"""The first start creates the tables and, on one slow core, takes half a minute."""

SERVER = """
import sys, uvicorn
from {package} import initial_data, main
main.initialize_db()
initial_data.init_data()
uvicorn.run(main.app, host="127.0.0.1", port=int(sys.argv[1]))
"""
"""Its own entry point listens on every address; this one creates the tables as that one does."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_environment(folder: Path, nuclio: str) -> dict[str, str]:
    """A server without Kubernetes: SQLite, files in ``folder``, Nuclio told of every project."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MLRUN_IS_API_SERVER": "true",
        "MLRUN_HTTPDB__DSN": f"sqlite:///{folder}/mlrun.db?check_same_thread=false",
        "MLRUN_HTTPDB__DIRPATH": str(folder / "db"),
        "MLRUN_HTTPDB__LOGS_PATH": str(folder / "logs"),
        "MLRUN_HTTPDB__PROJECTS__FOLLOWERS": "nuclio",
        "MLRUN_HTTPDB__PROJECTS__PERIODIC_SYNC_INTERVAL": "3 seconds",
        "MLRUN_HTTPDB__LOGS__NUCLIO__PULL_DEPLOY_STATUS_DEFAULT_INTERVAL": "1",
        "MLRUN_NUCLIO_DASHBOARD_URL": nuclio,
        "MLRUN_ARTIFACT_PATH": str(folder / "artifacts"),
        "MLRUN_KUBERNETES__KUBECONFIG_PATH": str(empty_kubernetes.start(folder)),
        "MLRUN_NAMESPACE": "default-tenant",
        # A serving spec in a config map would be out of Stoker's sight.
        "MLRUN_HTTPDB__NUCLIO__SERVING_SPEC_ENV_CUTOFF": "1000000",
    }


@contextlib.contextmanager
def mlrun_server(
    python: str, package: str, folder: Path, nuclio: str, more: dict[str, str]
) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = (folder / "server.log").open("w")
    command = [python, "-c", SERVER.format(package=package), str(port)]
    told = {name: value.replace("{url}", url) for name, value in more.items()}
    environment = server_environment(folder, nuclio) | told
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        wait_for(f"{url}/api/v1/healthz", process)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        log.close()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SERVER_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.2)
    raise SystemExit(f"the MLRun server did not start: {url}")


def client(python: str, folder: Path, told: dict[str, str], recorder: Recorder) -> list[str]:
    """Runs the trial; its lines. Each ``STEP`` line names what the recorder sees from then on."""
    work = folder / "client"
    work.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "TRIAL_DIR": str(work),
        **told,
    }
    with (folder / "client.log").open("w") as errors:
        process = subprocess.Popen(
            [python, str(HERE / "real_mlrun" / "client_trial.py")],
            env=environment, cwd=work, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", file=errors, flush=True)
            word, _, rest = line.strip().partition(" ")
            if word == "STEP":
                recorder.during = rest
            elif word in ("OK", "FAILED"):
                lines.append(line.strip())
                print(line, end="", flush=True)
        process.wait()
    return lines


def request_log(asked: list[Asked]) -> Iterator[str]:
    """The request log, repeats of one request folded into a count."""
    for (during, method, path, status), same in groupby(
        asked, key=lambda a: (a.during, a.method, a.path, a.status)
    ):
        entries = list(same)
        count = f"  ×{len(entries)}" if len(entries) > 1 else ""
        yield f"{during:55} {method:6} {status} {path}{count}"
        if entries[0].error:
            yield f"{'':55}        {entries[0].error}"


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--python", required=True, help="of an environment with mlrun[api]")
    parse.add_argument("--package", default="mlrun.api", help="where the server is in it")
    parse.add_argument("--keep", type=Path, help="folder for the server's and the client's logs")
    parse.add_argument(
        "--env", action="append", default=[], help="NAME=VALUE for the server; {url} is its own"
    )
    parse.add_argument(
        "--direct", action="store_true", help="no server: the older client asks Stoker itself"
    )
    asked = parse.parse_args()
    more = dict(pair.split("=", 1) for pair in asked.env)
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="st-mlrun-"))
    home = Home.at(folder / "home")
    settings = UpSettings(home=str(home.root), port=0, gateway_port=0, devices="cpu")
    endpoints = up.detach(settings)
    recorder = Recorder(endpoints.control_url)
    try:
        server = (
            contextlib.nullcontext(recorder.url)
            if asked.direct
            else mlrun_server(asked.python, asked.package, folder, recorder.url, more)
        )
        with server as api:
            told = {"MLRUN_DBPATH": api, "STOKER_CONTROL": endpoints.control_url}
            told |= {"PYTHONPATH": more.get("PYTHONPATH", "")}
            lines = client(asked.python, folder, told, recorder)
            recorder.during = "shutdown"
    finally:
        recorder.close()
        down(home, 60)
        print("\n".join(["", "REQUESTS", *request_log(recorder.asked)]))
        if asked.keep:
            shutil.copytree(folder, asked.keep, dirs_exist_ok=True)
        shutil.rmtree(folder)
    failed = [line for line in lines if line.startswith("FAILED")]
    print(f"\n{len(lines) - len(failed)} of {len(lines)} steps passed")
    return 1 if failed or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
