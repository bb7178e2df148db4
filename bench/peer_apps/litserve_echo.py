"""The echo job on LitServe, with its queue for high throughput (``fast_queue``, ZeroMQ)."""

import os
from typing import Any

import litserve as ls


class Echo(ls.LitAPI):
    """Answers what was asked."""

    def setup(self, device: str) -> None:
        """Nothing to load on ``device``."""

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """The JSON body as it was read."""
        return request

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """The same data."""
        return x

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """What FastAPI writes as JSON."""
        return output


if __name__ == "__main__":
    workers = int(os.environ["ECHO_WORKERS"])
    server = ls.LitServer(Echo(), accelerator="cpu", workers_per_device=workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["ECHO_PORT"]),
        num_api_servers=int(os.environ.get("ECHO_API_SERVERS", workers)),
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
