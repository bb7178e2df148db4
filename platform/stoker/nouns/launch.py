"""What a zygote is told to fork, and what it tells back. JSON lines on its unix socket."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class ZygoteKind(StrEnum):
    """What a zygote has imported already."""

    PLAIN = "plain"
    TORCH = "torch"
    MLRUN = "mlrun"


class WorkerLaunch(BaseModel):
    """Everything a worker process needs to become one worker of a replica.

    Attributes:
        socket: unix socket that the worker listens on; the zygote binds it before the fork, so that
            callers may connect at once and wait for READY.
        log: file that stdout, stderr and the structured log are appended to.
        handler: ``module.sub:function``, imported with ``code_dir`` first on ``sys.path``.
        site_dir: site-packages of the function's own environment, put before the platform's.
        env: the whole declared environment of the function, plus what the platform adds
            (CUDA_VISIBLE_DEVICES, NUCLIO_*, STOKER_*).
        permits: requests held at once (`FunctionConfig.permits`).
        batch_size, batch_timeout_s: 0 batch_size means no batching.
        event_timeout_s: the default deadline of one event; None is no limit.
        threads: CPU threads for numeric libraries in this worker.
        trigger_kind, trigger_name: what ``context.trigger`` says (`FunctionConfig.worker_trigger`).
        gateway_url, gateway_key: where other functions answer by HTTP, and the key of that port.
        redis_url: the home's store, where a graph's worker looks up the functions that it calls.
            Neither it nor the key is part of ``env``: user code and listings do not show them.
        fresh: start as a new process rather than by fork; ``fresh_reason`` says why.
    """

    model_config = ConfigDict(frozen=True)

    function: str
    project: str = "default"
    revision: int
    replica: str
    index: int
    socket: str
    log: str
    code_dir: str
    handler: str
    site_dir: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    permits: int = 1
    asynchronous: bool = False
    batch_size: int = 0
    batch_timeout_s: float = 0.0
    event_timeout_s: float | None = None
    termination_s: float = 10.0
    threads: int = 1
    trigger_kind: str = "http"
    trigger_name: str = "default-http"
    gateway_url: str = ""
    gateway_key: str = Field(default="", repr=False)
    redis_url: str = Field(default="", repr=False)
    fresh: bool = False
    fresh_reason: str = ""


class ZygoteReply(BaseModel):
    """One line from a zygote.

    ``started``: ``replica``/``index`` runs as ``pid``. ``exited``: ``pid`` ended with ``status``
    (exit code, or minus the signal). ``refused``: nothing was started, ``message`` says why.
    ``hello``: the first line of a connection: ``kind``, ``pid`` and ``message`` (imported what).
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    replica: str = ""
    index: int = 0
    pid: int = 0
    status: int = 0
    message: str = ""
