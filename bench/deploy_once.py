"""The client of ``bench.deploy``: an unmodified mlrun SDK; one JSON line a deploy.

``python bench/deploy_once.py SOURCE ROUNDS`` with ``MLRUN_DBPATH`` set.
"""

import json
import sys
import tempfile
import time

import mlrun

source, rounds = sys.argv[1], int(sys.argv[2])
project = mlrun.get_or_create_project("bench", context=tempfile.mkdtemp(prefix="stoker-bench-"))


def deployed(name: str) -> float:
    """Milliseconds until the client says that the function is ready."""
    project.set_function(source, name=name, kind="nuclio", handler="handler", image="mlrun/mlrun")
    start = time.perf_counter()
    project.deploy_function(name)
    return 1000 * (time.perf_counter() - start)


deployed("first")
for number in range(rounds):
    print(json.dumps({"ms": deployed(f"echo-{number}")}), flush=True)
