"""The routing client: from a request to an outcome, over the warm workers of each function.

Belongs here: connections to workers, the choice among them, waiting rooms, deadlines, retries,
cancellation, and the demand that results. Does not belong here: HTTP, Redis, or knowledge of who
asks: the gateway feeds it from the store and answers clients with its outcomes; a graph's worker
does the same for its remote steps.
"""

from stoker.sdk.routing.call import Call, Caller
from stoker.sdk.routing.clock import Clock, LoopClock
from stoker.sdk.routing.lane import Lane
from stoker.sdk.routing.limits import Limits
from stoker.sdk.routing.link import Link
from stoker.sdk.routing.router import Router

__all__ = ["Call", "Caller", "Clock", "Lane", "Limits", "Link", "LoopClock", "Router"]
