"""The store: the only room that speaks Redis.

Belongs here: keys, records in and out, announcements, leases, durable invocations, and turning
every failure of Redis into `StoreUnavailable`. Does not belong here: decisions, HTTP, processes
(the embedded Redis is started by ``app``), or anything on the path of a warm request.
"""

from stoker.store.store import Store

__all__ = ["Store"]
