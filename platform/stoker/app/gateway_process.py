"""A gateway's process: one of those that share the data port."""

from __future__ import annotations

import asyncio
import gc

from stoker.app.entry import connect_patiently, run_process, say_ready
from stoker.app.settings import ProcessSettings
from stoker.gateway import Gateway, GatewaySettings


async def serve(settings: ProcessSettings, stop: asyncio.Event) -> None:
    """Serves until asked to stop; then accepts nothing more and answers what it has accepted."""
    store = await connect_patiently(settings, stop)
    if store is None:
        return
    try:
        gateway = Gateway(
            store,
            GatewaySettings(
                host=settings.host,
                port=settings.port,
                gateway=settings.name,
                api_keys=frozenset(settings.data_keys),
                grace_s=settings.drain_s,
            ),
        )
        await gateway.start()
        _rarely_collect()
        try:
            say_ready()
            await stop.wait()
        finally:
            await gateway.stop()
    finally:
        await store.close()


def _rarely_collect() -> None:
    """A request leaves no cycle behind, so the collector only needs to look now and then.

    By default it would walk the young objects at every hundredth request and, at times, all that
    was imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    run_process(serve)
