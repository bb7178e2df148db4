"""A gateway's view of the store: what every follower has, and the reports of its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stoker.gateway.meters import Meters
from stoker.gateway.settings import GatewaySettings
from stoker.nouns.metrics import GatewaySnapshot
from stoker.sdk.routing import Router
from stoker.sdk.routing.follow import Follower, Pace
from stoker.store import Store


class View(Follower):
    """Follows every function, and tells the counts."""

    def __init__(
        self,
        store: Store,
        router: Router,
        meters: Meters,
        settings: GatewaySettings,
        snapshot: Callable[[], GatewaySnapshot],
    ) -> None:
        pace = Pace(settings.demand_every_s, settings.report_every_s, settings.resync_every_s)
        super().__init__(store, router, settings.gateway, pace)
        self._store = store
        self._meters = meters
        self._settings = settings
        self._snapshot = snapshot

    async def report_metrics(self) -> None:
        """Tells the counts, until cancelled."""
        while True:
            snapshot = dict(self._snapshot())
            await self._ask(
                lambda: self._store.report_metrics(self._settings.gateway, snapshot)  # noqa: B023
            )
            await asyncio.sleep(self._settings.report_every_s)

    def _count_failure(self) -> None:
        self._meters.store_failures += 1
