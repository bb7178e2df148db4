from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from real_redis import RealRedis
from stoker.store import Store


@pytest.fixture
def redis() -> Iterator[RealRedis]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="st-"))
    server = RealRedis(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture
async def store(redis: RealRedis) -> AsyncIterator[Store]:
    opened = await Store.connect(redis.url, home_id="home-1")
    yield opened
    await opened.close()
