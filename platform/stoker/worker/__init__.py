"""The worker room: zygotes that fork workers, and what runs inside a worker.

Belongs here: the zygote, the worker process, Nuclio's handler contract (events, answers, context,
logger), the frames of a worker's socket, batching, deadlines, a worker's log. Does not belong
here: Redis, HTTP, scaling, placement, models. A worker must be able to live when everything but
itself is gone.
"""
