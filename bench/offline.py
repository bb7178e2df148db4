"""The offline loop that batching is measured against: full batches, no requests.

``python bench/offline.py HOME BATCH THREADS`` loads the model prepared in that home, says
``ready``, then for each line ``SECONDS`` on stdin runs that long and prints
``{"texts": texts embedded, "seconds": time taken}``.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.load_once import ENV
from bench.texts import TEXTS


def main(home: str, size: int, threads: str) -> None:
    """Serves one run a line."""
    # Before the model's libraries are imported: they read it once.
    os.environ.update(OMP_NUM_THREADS=threads, OMP_WAIT_POLICY="PASSIVE")
    from stoker.models.load import load_from

    model = load_from({**ENV, "OMP_NUM_THREADS": threads, "STOKER_HOME": home})
    texts = itertools.cycle(TEXTS)
    model.encode(list(itertools.islice(texts, size)))
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        end, done = start + float(line), 0
        while time.perf_counter() < end:
            done += len(model.encode(list(itertools.islice(texts, size))))
        taken = time.perf_counter() - start
        print(json.dumps({"texts": done, "seconds": taken}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
