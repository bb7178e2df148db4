"""The decisions: admission, routing, scaling, placement, restarts, batching, the lifecycle.

Belongs here: functions from facts (and ``now``) to a decision. Does not belong here: I/O, clocks,
logging, await, or anything that changes what it is given.
"""
