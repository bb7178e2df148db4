"""The echo job on Mosec: its Rust front, and ``ECHO_WORKERS`` Python workers behind it.

Mosec takes its own settings from ``MOSEC_*`` variables, the port among them.
"""

import os
from typing import Any

from mosec import Server, Worker


class Echo(Worker):
    """Answers what was asked; Mosec's own JSON codec reads and writes it."""

    def forward(self, data: Any) -> Any:
        """The same data."""
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo, num=int(os.environ["ECHO_WORKERS"]))
    server.run()
