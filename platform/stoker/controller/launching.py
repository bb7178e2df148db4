"""From a revision to what its worker processes are told."""

from __future__ import annotations

import uuid

from stoker.controller.settings import ControllerSettings
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.quantity import parse_duration
from stoker.nouns.record import Revision

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NO_KEY = "none"
_NAME_PART = 8
"""Of the function's name in a replica's id: with the rest it fits a unix socket's path."""


def new_replica_id(function: str, project: str = "") -> str:
    """An id that people can place and that names a socket.

    Without the project's name, which all functions of a project begin with.

    >>> new_replica_id("embedder-gpu").rpartition("-")[0]
    'embedder'
    >>> new_replica_id("news-text-classify", "news").rpartition("-")[0]
    'text-cla'
    """
    own = function.removeprefix(f"{project}-") or function
    return f"{own[:_NAME_PART].strip('-')}-{uuid.uuid4().hex[:8]}"


def worker_threads(cores: int, workers: int) -> int:
    """CPU threads for numeric libraries in each worker of a replica."""
    return max(1, cores // workers)


def worker_launch(
    *,
    config: FunctionConfig,
    revision: Revision,
    replica: str,
    index: int,
    devices: tuple[str, ...],
    home: Home,
    settings: ControllerSettings,
    bytes_each: int = 0,
) -> WorkerLaunch:
    """What the zygote is told about one worker; ``bytes_each``: its share of each device."""
    batch = config.batch
    threads = worker_threads(settings.cores, config.workers)
    trigger_kind, trigger_name = config.worker_trigger
    return WorkerLaunch(
        function=config.name,
        project=config.project,
        revision=revision.number,
        replica=replica,
        index=index,
        socket=str(home.worker_socket(replica, index)),
        log=str(home.function_logs(config.name) / f"{replica}.{index}.log"),
        code_dir=revision.code_dir or "",
        site_dir=revision.site_dir,
        handler=config.spec.handler,
        env=_environment(config, replica, devices, threads, home, settings)
        | ({"STOKER_GPU_BYTES": str(bytes_each)} if devices else {}),
        permits=config.permits,
        asynchronous=config.http_trigger.mode == "async",
        batch_size=batch.batch_size if batch else 0,
        batch_timeout_s=parse_duration(batch.timeout or 0) if batch else 0.0,
        event_timeout_s=config.event_timeout_s,
        termination_s=config.termination_s,
        threads=threads,
        trigger_kind=trigger_kind,
        trigger_name=trigger_name,
        gateway_url=settings.gateway_url,
        gateway_key=settings.gateway_key.get_secret_value() if settings.gateway_key else "",
        redis_url=settings.redis_url,
    )


def _environment(
    config: FunctionConfig,
    replica: str,
    devices: tuple[str, ...],
    threads: int,
    home: Home,
    settings: ControllerSettings,
) -> dict[str, str]:
    """Defaults that the function may override, its own variables, then what it may not."""
    return {
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        **_apis(config, settings),
        **config.env,
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": ",".join(devices),
        "NUCLIO_FUNCTION_NAME": config.name,
        "NUCLIO_FUNCTION_INSTANCE": replica,
        "STOKER_GATEWAY_URL": settings.gateway_url,
        "STOKER_HOME": str(home.root),
    }


def _apis(config: FunctionConfig, settings: ControllerSettings) -> dict[str, str]:
    """Where the clients inside a function find the control port, and the key by which they get in.

    MLRun's client and v3io's send this access key, and v3io's does not start without one. The key
    of the platform is for MLRun's functions, which cannot work without its API; the rest have no
    business with it.
    """
    url = settings.control_url
    key = settings.control_key if config.is_mlruns else None
    return {
        "NUCLIO_DASHBOARD_URL": url,
        "MLRUN_DBPATH": url,
        "V3IO_API": url,
        "V3IO_ACCESS_KEY": key.get_secret_value() if key else _NO_KEY,
    }
