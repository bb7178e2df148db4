"""HTTP in, reply out: parse, find the function, hand over to the routing client, answer.

Belongs here: HTTP/1.1, keys, body and header limits, streaming to clients, durable invocations,
counting, and following the store. Does not belong here: which worker gets a request and who waits
(`stoker.sdk.routing`), what runs inside a worker, or anything that speaks Redis itself.
"""

from stoker.gateway.server import Gateway
from stoker.gateway.settings import GatewaySettings

__all__ = ["Gateway", "GatewaySettings"]
