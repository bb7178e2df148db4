"""The gateway's process rarely runs the collector, so the hot path must not need it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from stoker.gateway.connection import Connection
from stoker.gateway.front import Front
from stoker.gateway.meters import Meters
from stoker.gateway.settings import GatewaySettings
from stoker.sdk.routing import Router


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /f HTTP/1.1\r\n\r\n",
        b"no HTTP\r\n\r\n",
    ],
)
@pytest.mark.usefixtures("no_collector")
async def test_a_connection_and_its_refusals_are_gone_without_the_collector(
    request_bytes: bytes,
) -> None:
    router = Router({"role": "gateway", "peer": "test"}, lambda _function: None)
    front = Front(router, GatewaySettings(), Meters(), Mock(), Mock(), Mock(), _Known())
    connection = _Watched(front)
    connection.connection_made(_Sink())
    connection.data_received(request_bytes)
    connection.connection_lost(None)
    gone = weakref.ref(connection)
    del connection
    assert gone() is None


class _Known:
    """Every name has just been asked for, and nobody has it."""

    def may_be(self, _name: str) -> bool:
        return False


class _Watched(Connection):
    """Can be referred to weakly, which its slots would forbid."""


class _Sink(Mock):
    """A transport that holds nothing of what is written."""

    def write(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 4")
