"""Who acts for a home: one process on its machine (file lock), one home on its Redis (lease)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket

from stoker.nouns.errors import StoreUnavailable
from stoker.nouns.home import Home
from stoker.store import Store

LEASE = "controller"


class Leadership:
    """Both must be held. Single writer: its controller.

    The lock ends with its process, so the successor of a killed controller need not sit out the
    lease: it holds the same lock of the same home, and therefore the same name in the lease.
    """

    def __init__(self, store: Store, home: Home, ttl_s: float) -> None:
        self._store = store
        self._home = home
        self._ttl_s = ttl_s
        self._owner = f"{socket.gethostname()}:{home.root}"
        self._descriptor: int | None = None

    async def acquire(self) -> None:
        """Waits until this process leads."""
        while True:
            if self._lock() and await self.renew(unknown=False):
                return
            await asyncio.sleep(self._ttl_s / 10)

    async def renew(self, *, unknown: bool = True) -> bool:
        """Holds the lease for another while; ``unknown`` is the answer while the store is away.

        With the store away nobody else can take the lease either: a leader goes on leading.
        """
        try:
            return await self._store.hold_lease(LEASE, self._owner, self._ttl_s)
        except StoreUnavailable:
            return unknown

    async def keep(self) -> None:
        """Renews until the lease is another's."""
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            if not await self.renew():
                return

    async def give_back(self) -> None:
        """Gives up the lease; the next controller need not wait.

        Raises:
            StoreUnavailable: it ends by itself then.
        """
        await self._store.release_lease(LEASE, self._owner)

    def unlock(self) -> None:
        """Lets another process of this home lead."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self) -> bool:
        if self._descriptor is not None:
            return True
        self._home.run.mkdir(parents=True, exist_ok=True)
        path = self._home.run / "controller.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True
