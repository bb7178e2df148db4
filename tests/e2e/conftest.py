from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_platform import Platform, eventually
from stoker.app.redis_server import redis_binary


@pytest.fixture
def home_dir() -> Iterator[Path]:
    """An empty folder for a home, with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="st-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def platform(home_dir: Path) -> Iterator[Platform]:
    """A home whose platform is not started yet; whatever runs is ended at the end."""
    made = Platform(home_dir)
    yield made
    made.down()
    made.client.close()
    if made.home.id_file.exists():
        assert made.left() == []


@pytest.fixture
def running(platform: Platform) -> Platform:
    """A running platform: one gateway, a plain zygote, an embedded Redis."""
    platform.up()
    return platform


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A Redis that is nobody's yet."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="st-"))
    socket = folder / "r.sock"
    process = subprocess.Popen(
        [redis_binary(), "--port", "0", "--unixsocket", str(socket), "--save", ""],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    eventually(socket.exists)
    yield f"unix://{socket}"
    process.kill()
    process.wait()
    shutil.rmtree(folder)
