"""Running a prepared ONNX checkpoint on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stoker.models.encoder import Vectors
from stoker.models.tokens import Ids
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"
INPUTS = ("input_ids", "attention_mask")
OUTPUT = "sentence_embedding"
_ERRORS_ONLY = 3


def options(threads: int) -> SessionOptions:
    """Session options for ``threads`` CPU threads; 1 starts no thread at all.

    Spinning is off: a pool that spins takes the cores of the other workers while it waits.
    """
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = _ERRORS_ONLY
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen


class OnnxSession:
    """A session whose weights are mapped from the checkpoint's data file."""

    block_tokens = 1
    """Every text runs alone. int8 scales activations by the range of all rows that run together, so
    a text's vector would depend on its neighbours (mean cosine .992 to itself); and on a CPU it
    gains 12 % at most (docs/decisions/0003-int8-on-cpu.md)."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        import onnxruntime

        chosen = options(threads)
        level = onnxruntime.GraphOptimizationLevel
        # The graph on disk is the optimised one: doing it again would only cost the wake.
        chosen.graph_optimization_level = level.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / GRAPH), chosen, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # the library's errors share no other base
            raise UnusableModel(f"{folder / GRAPH} cannot be loaded: {exc}") from exc

    def run(self, ids: Ids, mask: Ids) -> Vectors:
        """See `stoker.models.encoder.Session`."""
        feeds = {INPUTS[0]: ids, INPUTS[1]: mask}
        vectors: Vectors = self._session.run([OUTPUT], feeds)[0]
        return vectors
