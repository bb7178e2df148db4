"""The same job on other servers, beside Stoker and the bare server.

One peer at a time, so that none pays for another's idle processes; in each of its rounds the bare
server, Stoker and the peer are measured in turn.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.bare_server import bare_echo
from bench.child import Child, wait_until
from bench.context import Context, free_port
from bench.job import BODY, Endpoint
from bench.peer_specs import PEERS, Peer
from bench.result import CannotRun, Figure, Result, at_least
from bench.samples import interleaved, ratio
from bench.stoker_home import FUNCTIONS, platform

CONNECTIONS = 32
START_S = 120.0
INSTALL_S = 1200.0


def run(context: Context) -> Result:
    """Every peer that can be installed and started; the others are listed with the reason."""
    result = Result("peers")
    with bare_echo(context) as bare, platform(context) as stoker:
        stoker.deploy(FUNCTIONS / "echo-async")
        ours = stoker.endpoint("bench-echo-async")
        for peer in PEERS:
            try:
                rounds = _beside(context, peer, bare, ours)
            except CannotRun as exc:
                result.not_run[peer.name] = str(exc)
                continue
            result.details[peer.name] = rounds
            result.figures.extend(_figures(peer, rounds))
    return result


def _beside(context: Context, peer: Peer, bare: Endpoint, ours: Endpoint) -> dict[str, list[float]]:
    body = context.body_file(BODY, "echo")

    def measure(name: str, endpoint: Endpoint, seconds: float) -> float:
        load = context.generator.run(endpoint, body, connections=CONNECTIONS, seconds=seconds)
        context.say(f"{name}: {load.per_second:,.0f}/s, p99 {load.p99_us / 1000:.1f} ms")
        return load.per_second

    python = environment(context, peer)
    with _running(context, peer, python) as theirs:
        sides = {"bare": bare, "stoker": ours, "peer": theirs}
        names = {"bare": "bare", "stoker": "Stoker", "peer": peer.name}
        for side, endpoint in sides.items():
            measure(f"{names[side]}, warming up", endpoint, 2)
        subjects = {
            side: lambda side=side: measure(names[side], sides[side], context.seconds)
            for side in sides
        }
        return interleaved(subjects, context.rounds(5, 2))


def _figures(peer: Peer, rounds: dict[str, list[float]]) -> list[Figure]:
    middle = {side: statistics.median(values) for side, values in rounds.items()}
    return [
        Figure(
            f"echo, async handler, beside {peer.name}",
            middle["stoker"],
            "req/s",
            reference=middle["peer"],
            ratio=ratio(rounds["stoker"], rounds["peer"]),
            target=at_least(peer.times),
        ),
        Figure(
            f"{peer.name}, beside the bare server",
            middle["peer"],
            "req/s",
            reference=middle["bare"],
            ratio=ratio(rounds["peer"], rounds["bare"]),
        ),
    ]


@contextmanager
def _running(context: Context, peer: Peer, python: Path) -> Iterator[Endpoint]:
    port = free_port()
    endpoint = Endpoint(f"http://127.0.0.1:{port}{peer.path}")
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as scratch:
        child = Child(
            [str(python), *peer.argv(port)],
            log=context.logs / f"{peer.environment}.log",
            cores=context.cores.serving,
            env={**peer.variables(port), "ECHO_SCRATCH": scratch},
        )
        with child:
            wait_until(child, endpoint.echoes, timeout_s=START_S)
            yield endpoint


def environment(context: Context, peer: Peer) -> Path:
    """The Python of the peer's own environment, made and filled when it is not there.

    Raises:
        CannotRun: it cannot be made, or pip cannot install what it needs.
    """
    folder = context.out / "peers" / peer.environment
    python, installed = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(peer.requirements)
    if installed.exists() and installed.read_text() == wanted:
        return python
    context.say(f"{peer.name}: installing {', '.join(peer.requirements)}")
    _command([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _command([*pip, *peer.requirements])
    installed.write_text(wanted)
    return python


def _command(argv: list[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise CannotRun(f"{' '.join(argv[:4])}: {exc}") from exc
    if done.returncode:
        raise CannotRun(f"{' '.join(argv[:4])}: {done.stderr.strip()[-300:]}")
