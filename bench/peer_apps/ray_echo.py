"""The echo job on Ray Serve: ``ECHO_WORKERS`` replicas behind its HTTP proxy.

Which proxy, and the options for throughput, come from ``RAY_SERVE_*`` variables.
"""

import os
import signal
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request


@serve.deployment(
    num_replicas=int(os.environ["ECHO_WORKERS"]),
    max_ongoing_requests=100,
    ray_actor_options={"num_cpus": 0.5},
    logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
)
class Echo:
    """Answers what was asked."""

    async def __call__(self, request: Request) -> Any:
        """The same data."""
        return await request.json()


if __name__ == "__main__":
    ray.init(
        num_cpus=int(os.environ["ECHO_WORKERS"]),
        include_dashboard=False,
        logging_level="WARNING",
        _temp_dir=os.environ["ECHO_SCRATCH"],
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["ECHO_PORT"])},
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    serve.run(Echo.bind(), route_prefix="/echo")
    signal.signal(signal.SIGTERM, lambda *_: ray.shutdown() or os._exit(0))
    signal.pause()
