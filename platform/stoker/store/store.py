"""`Store`: everything that Stoker keeps in Redis, behind one connection pool."""

from __future__ import annotations

from stoker.store.announcements import Announcements
from stoker.store.bells import Bells
from stoker.store.invocations import Invocations
from stoker.store.link import Link
from stoker.store.membership import Leases, Replicas, Reports
from stoker.store.registry import Functions, Projects
from stoker.store.rollouts import RolloutEvents
from stoker.store.stream_groups import StreamGroups
from stoker.store.streams import Streams


class Store(
    Functions,
    Projects,
    Replicas,
    Reports,
    Leases,
    Invocations,
    Announcements,
    Streams,
    StreamGroups,
    Bells,
    RolloutEvents,
):
    """The store. Every method may raise `StoreUnavailable`, within about 2 s when Redis is gone.

    Only `watch`, `bells` and `claim_invocation` wait longer. No method retries a write.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    @classmethod
    async def connect(cls, url: str, *, home_id: str | None = None) -> Store:
        """Connects to ``unix:///path/redis.sock`` or ``redis://…`` and claims it for the home.

        Raises:
            StoreUnavailable: unreachable, or it carries another home's id.
        """
        link = Link(url, home_id=home_id)
        try:
            await link.claim_home()
        except BaseException:
            await link.close()
            raise
        return cls(link)

    async def close(self) -> None:
        """Ends every connection; watchers end too."""
        await self._link.close()

    async def ping(self) -> None:
        """Asks whether Redis answers.

        Raises:
            StoreUnavailable: it does not.
        """
        await self._link.call("PING")
