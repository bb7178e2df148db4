"""The peers: what is installed for each, how it is started, and where it does the job.

Versions are pinned, so that a figure names what it measured. Each is given two workers for the two
serving cores and set up as its documentation recommends for throughput; see `bench.peer_apps`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

APPS = Path(__file__).parent / "peer_apps"
WORKERS = 2


@dataclass(frozen=True)
class Peer:
    """One peer.

    Attributes:
        environment: name of its virtual environment; two peers may share one.
        requirements: what pip installs there.
        argv: the command after that environment's Python, given the port.
        env: variables, given the port.
        times: Stoker's throughput should be at least this many times its.
    """

    name: str
    environment: str
    requirements: tuple[str, ...]
    path: str
    times: float
    argv: Callable[[int], tuple[str, ...]]
    env: Callable[[int], dict[str, str]] = field(default=lambda _: {})

    def variables(self, port: int) -> dict[str, str]:
        """Its environment variables."""
        return {"ECHO_PORT": str(port), "ECHO_WORKERS": str(WORKERS), **self.env(port)}


def _script(name: str) -> Callable[[int], tuple[str, ...]]:
    return lambda _: (str(APPS / name),)


def _mosec(port: int) -> dict[str, str]:
    return {
        "MOSEC_PORT": str(port),
        "MOSEC_ADDRESS": "127.0.0.1",
        "MOSEC_LOG_LEVEL": "error",
    }


def _bentoml(port: int) -> tuple[str, ...]:
    return (
        *("-m", "bentoml", "serve", "bentoml_echo:Echo", "--working-dir", str(APPS)),
        *("--host", "127.0.0.1", "--port", str(port)),
    )


def _ray(**options: str) -> Callable[[int], dict[str, str]]:
    return lambda _: {"RAY_USAGE_STATS_ENABLED": "0", **options}


_RAY = ("ray[serve]==2.60.0",)

PEERS = (
    Peer(
        name="Mosec",
        environment="mosec",
        requirements=("mosec==0.9.8",),
        path="/inference",
        times=2,
        argv=_script("mosec_echo.py"),
        env=_mosec,
    ),
    Peer(
        name="LitServe",
        environment="litserve",
        requirements=("litserve==0.2.19",),
        path="/predict",
        times=10,
        argv=_script("litserve_echo.py"),
    ),
    Peer(
        name="BentoML",
        environment="bentoml",
        # uvloop and httptools are optional to its uvicorn, which takes them when they are there.
        requirements=("bentoml==1.4.39", "uvloop", "httptools"),
        path="/echo",
        times=10,
        argv=_bentoml,
        env=lambda _: {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        name="Ray Serve",
        environment="ray",
        requirements=_RAY,
        path="/echo",
        times=50,
        argv=_script("ray_echo.py"),
        env=_ray(),
    ),
    Peer(
        # Its newer path: HAProxy to the replicas' own HTTP servers. HAProxy listens on all
        # interfaces while it runs, whatever the host asked for.
        name="Ray Serve, HAProxy",
        environment="ray",
        requirements=_RAY,
        path="/echo",
        times=50,
        argv=_script("ray_echo.py"),
        env=_ray(RAY_SERVE_ENABLE_HA_PROXY="1", RAY_SERVE_THROUGHPUT_OPTIMIZED="1"),
    ),
)
