from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from live_platform import home_of_its_own
from real_redis import RealRedis
from stoker.store import Store


@pytest.fixture
def redis() -> Iterator[RealRedis]:
    with home_of_its_own() as folder:
        server = RealRedis(folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture
async def store(redis: RealRedis) -> AsyncIterator[Store]:
    opened = await Store.connect(redis.url, home_id="home-1")
    yield opened
    await opened.close()
