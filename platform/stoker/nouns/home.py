"""Where things lie in a home (``STOKER_HOME``, default ``~/.stoker``). Paths only, no I/O."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stoker.nouns.errors import BadRequest

SOCKET_PATH_LIMIT = 107
"""Bytes in ``sockaddr_un.sun_path`` on Linux, less the closing zero."""
_LONGEST_TAIL = len("/run/w/") + 24


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one home. Everything that Stoker keeps lies below ``root`` (mode 0700)."""

    root: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str] | None = None) -> Home:
        """The home at ``path``, else ``STOKER_HOME``, else ``~/.stoker``.

        Raises:
            BadRequest: the path is too long for the unix sockets that must lie in it.
        """
        chosen = path or os.environ.get("STOKER_HOME") or "~/.stoker"
        root = Path(os.path.abspath(os.path.expanduser(chosen)))
        longest = SOCKET_PATH_LIMIT - _LONGEST_TAIL
        if len(os.fsencode(root)) > longest:
            raise BadRequest(
                f"the home's path must be at most {longest} bytes, because unix sockets lie in it, "
                f"was {len(os.fsencode(root))}: {root}"
            )
        return cls(root)

    @property
    def run(self) -> Path:
        """Sockets, pids and ports of the running platform."""
        return self.root / "run"

    @property
    def workers(self) -> Path:
        """The workers' sockets."""
        return self.run / "w"

    def worker_socket(self, replica: str, index: int) -> Path:
        """The socket of one worker."""
        return self.workers / f"{replica}.{index}"

    def zygote_socket(self, kind: str) -> Path:
        """The control socket of a zygote."""
        return self.run / f"zygote-{kind}.sock"

    @property
    def redis_socket(self) -> Path:
        """The embedded Redis's socket."""
        return self.run / "redis.sock"

    @property
    def redis_data(self) -> Path:
        """The embedded Redis's append-only file lies here."""
        return self.root / "redis"

    @property
    def endpoints(self) -> Path:
        """JSON: ``{"home_id", "control_url", "gateway_url", "redis_url", "devices", "pid"}``."""
        return self.run / "endpoints.json"

    @property
    def processes(self) -> Path:
        """JSON: the pids and start times that the supervisor keeps."""
        return self.run / "processes.json"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one supervisor of this home."""
        return self.root / "lock"

    @property
    def id_file(self) -> Path:
        """A random id, also kept in Redis, so that another home's Redis is noticed."""
        return self.root / "id"

    @property
    def logs(self) -> Path:
        """Logs of the platform's own processes; the functions' lie in folders below."""
        return self.root / "logs"

    def function_logs(self, function: str) -> Path:
        """Logs of one function: a file a worker, JSON lines."""
        return self.logs / "functions" / function

    @property
    def traffic(self) -> Path:
        """Recorded requests and answers, of the functions that declare it."""
        return self.root / "traffic"

    def function_traffic(self, function: str) -> Path:
        """Those of one function: segments of JSON lines, and ``about.json``."""
        return self.traffic / function

    @property
    def functions(self) -> Path:
        """The functions' code: a folder each."""
        return self.root / "functions"

    def code(self, function: str, revision: int) -> Path:
        """The unpacked source of one revision."""
        return self.functions / function / str(revision)

    @property
    def environments(self) -> Path:
        """Environments made by build steps, by content."""
        return self.root / "envs"

    @property
    def models(self) -> Path:
        """Prepared checkpoints, by content."""
        return self.root / "models"

    @property
    def quality(self) -> Path:
        """What quality runs found: a folder a function, in it one a run, by content."""
        return self.root / "quality"

    @property
    def catalog(self) -> Path:
        """MLRun's objects, one SQLite file."""
        return self.root / "catalog.sqlite"

    @property
    def artifacts(self) -> Path:
        """Where MLRun's clients on this machine put the files of their artifacts."""
        return self.root / "artifacts"

    @property
    def simulated_devices(self) -> Path:
        """JSON, written by whoever rehearses: what befalls the devices of ``--devices sim:``."""
        return self.root / "sim-devices.json"
