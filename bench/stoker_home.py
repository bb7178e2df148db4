"""A platform of the benchmark's own: a home in a temporary folder, free ports, the CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.context import Context
from bench.job import Endpoint
from bench.result import CannotRun

FUNCTIONS = Path(__file__).parent / "functions"
UP_S, DEPLOY_S, ZERO_S = 120.0, 900.0, 60.0


@dataclass(frozen=True)
class Platform:
    """The running platform, by the verbs that the benchmarks need."""

    home: Path
    control_url: str
    gateway_url: str

    def endpoint(self, function: str, path: str = "") -> Endpoint:
        """A function's URL on the data port."""
        return Endpoint(f"{self.gateway_url}/{function}{path}")

    def deploy(self, folder: Path) -> None:
        """Deploys a function and waits until it is ready.

        Raises:
            CannotRun: it did not become ready.
        """
        _stoker(self.home, "deploy", str(folder), timeout_s=DEPLOY_S)

    def remove(self, name: str) -> None:
        """Deletes a function."""
        _stoker(self.home, "rm", name, timeout_s=60)

    def function(self, name: str) -> dict[str, Any]:
        """The function as Nuclio's API shows it."""
        reply = httpx.get(f"{self.control_url}/api/functions/{name}", timeout=10)
        reply.raise_for_status()
        return dict(reply.json())

    def replicas(self, name: str) -> list[str]:
        """The ids of its replicas."""
        reply = httpx.get(f"{self.control_url}/api/functions/{name}/replicas", timeout=10)
        reply.raise_for_status()
        return list(reply.json()["names"])

    def sleep(self, name: str) -> None:
        """To zero, and waits until no replica and no process of it is left."""
        workers = self.workers(name)
        reply = httpx.patch(
            f"{self.control_url}/api/functions/{name}",
            json={"desiredState": "scaledToZero"},
            timeout=10,
        )
        reply.raise_for_status()
        _until(lambda: not self.replicas(name), f"{name} at zero", ZERO_S)
        psutil.wait_procs(workers, timeout=ZERO_S)

    def workers(self, name: str) -> list[psutil.Process]:
        """Its worker processes."""
        reply = httpx.get(f"{self.control_url}/api/stoker/ps", timeout=10)
        reply.raise_for_status()
        pids = [
            worker["pid"]
            for replica in reply.json()["replicas"]
            if replica["function"] == name
            for worker in replica["workers"]
        ]
        return [psutil.Process(pid) for pid in pids if pid and psutil.pid_exists(pid)]

    def process(self, name: str) -> psutil.Process:
        """One of the platform's own processes, by the supervisor's name for it.

        Raises:
            CannotRun: there is no such process.
        """
        records = json.loads((self.home / "run" / "processes.json").read_text())
        for record in records:
            if record["name"] == name:
                return psutil.Process(record["pid"])
        raise CannotRun(f"the platform has no process {name}")

    def exercise(self, name: str) -> None:
        """Enough requests at once that every worker answers some.

        Raises:
            CannotRun: one was not answered with 200.
        """
        endpoint = self.endpoint(name)
        with ThreadPoolExecutor(32) as pool:
            statuses = {status for status, _ in pool.map(lambda _: endpoint.post(), range(256))}
        if statuses != {200}:
            raise CannotRun(f"{name} answered {sorted(statuses)}")


def _until(reached: Callable[[], bool], what: str, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > end:
            raise CannotRun(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.02)


def _stoker(
    home: Path, *words: str, timeout_s: float, cores: tuple[int, ...] | None = None
) -> None:
    """One verb of the command line, on ``cores``, which what it starts inherits."""
    done = subprocess.run(
        [sys.executable, "-m", "stoker.cli.main", *words, "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise CannotRun(f"stoker {words[0]} ended with {done.returncode}: {said}")


@contextmanager
def platform(context: Context, devices: str = "sim:1x8GiB") -> Iterator[Platform]:
    """Runs a platform on the serving cores; prepared models are kept from run to run."""
    home = Path(tempfile.mkdtemp(prefix="stoker-bench-"))
    models = context.out / "models"
    models.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(models)
    try:
        ports = ("--port", "0", "--gateway-port", "0")
        _stoker(
            home, "up", "--detach", "--devices", devices, *ports,
            timeout_s=UP_S, cores=context.cores.serving,
        )  # fmt: skip
        told = json.loads((home / "run" / "endpoints.json").read_text())
        running = Platform(home, told["control_url"], told["gateway_url"])
        _zygotes_are_up(running)
        yield running
    finally:
        if (home / "run" / "endpoints.json").exists():
            _stoker(home, "down", timeout_s=60)
        keep = context.logs / "home"
        shutil.rmtree(keep, ignore_errors=True)
        if (home / "logs").is_dir():
            shutil.copytree(home / "logs", keep)
        shutil.rmtree(home, ignore_errors=True)


def _zygotes_are_up(running: Platform) -> None:
    """The heavy zygotes import for seconds after the ports are up, which no figure should pay."""
    sockets = running.home / "run"
    _until(lambda: (sockets / "zygote-torch.sock").exists(), "the torch zygote", UP_S)
    time.sleep(1)
    busy = [p for p in psutil.process_iter(["cmdline"]) if _is_zygote(p, running.home)]
    _until(lambda: all(_idle(process) for process in busy), "idle zygotes", UP_S)


def _is_zygote(process: psutil.Process, home: Path) -> bool:
    words = process.info["cmdline"] or []
    return "stoker.worker.zygote" in words and str(home) in words


def _idle(process: psutil.Process) -> bool:
    return process.cpu_percent(interval=0.3) < 10
