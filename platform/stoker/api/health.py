"""Whether the control port lives, and whether it can do its work."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api.overview import Snapshot
from stoker.api.reply import Json
from stoker.nouns.errors import StoreUnavailable
from stoker.store import Store


@dataclass(frozen=True, slots=True)
class Health:
    """``/healthz`` and ``/readyz``."""

    store: Store
    snapshot: Snapshot | None

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/healthz", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
        ]

    async def live(self, _request: Request) -> Response:
        """The process answers."""
        return Json({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Redis answers and the controller leads; else 503, and which of them is missing."""
        reasons: dict[str, str] = {}
        try:
            await self.store.ping()
        except StoreUnavailable as error:
            reasons["store"] = error.message
        # Without a snapshot the controller runs elsewhere, and nothing can be said about it here.
        if self.snapshot is not None and not self.snapshot().get("leading"):
            reasons["controller"] = "the controller waits for the lease that another one holds"
        if reasons:
            return Json({"status": "unavailable", "reasons": reasons}, status_code=503)
        return Json({"status": "ready"})
