"""mlrun's own server in one process: what its router costs without a platform around it.

``python bench/router_once.py EVENTS`` answers each line on stdin with ``{"cpu_us", "wall_us"}``:
the microseconds of one event, JSON in and JSON out, over that many events.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

os.environ["MLRUN_DBPATH"] = ""
BODY = b'{"inputs": [[1, 2, 3]]}'
PATH = "/v2/models/echo/infer"
ROUTER = Path(__file__).parent / "functions" / "graph" / "router.py"


def main(events: int) -> None:
    """Serves one measurement a line."""
    spec = importlib.util.spec_from_file_location("router", ROUTER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.create("bench").to_mock_server(namespace=vars(module))
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(events):
            # The server gives the document; a client gets its text.
            answer = json.dumps(server.test(PATH, BODY, content_type="application/json"))
        spent = {
            "cpu_us": 1e6 * (time.process_time() - cpu) / events,
            "wall_us": 1e6 * (time.perf_counter() - wall) / events,
        }
        assert json.loads(answer)["outputs"] == [[1, 2, 3]]
        print(json.dumps(spent), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
