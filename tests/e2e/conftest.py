from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_platform import Platform, eventually, home_of_its_own, platform_of_its_own
from prepared_encoder import PreparedEncoder
from real_redis import answers
from stoker.app.redis_server import redis_binary


@pytest.fixture
def home_dir() -> Iterator[Path]:
    with home_of_its_own() as folder:
        yield folder


@pytest.fixture
def platform() -> Iterator[Platform]:
    """A home whose platform is not started yet; whatever runs is ended at the end."""
    with platform_of_its_own() as made:
        yield made


@pytest.fixture
def running(platform: Platform) -> Platform:
    """A running platform: one gateway, a plain zygote, an embedded Redis."""
    platform.up()
    return platform


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedEncoder:
    """One for all processes of this run, and none that an earlier run has left."""
    own = tmp_path_factory.getbasetemp()
    return PreparedEncoder(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A Redis that is nobody's yet."""
    with home_of_its_own() as folder:
        socket = folder / "r.sock"
        process = subprocess.Popen(
            [redis_binary(), "--port", "0", "--unixsocket", str(socket), "--save", ""],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: answers(socket))
            yield f"unix://{socket}"
        finally:
            process.kill()
            process.wait()
