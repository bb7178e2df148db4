"""Models: from what a function declares to a model that answers.

Belongs here: finding a checkpoint, preparing it once (quantize, convert, verify), keeping it by
content, loading it so that all workers of a host share one copy, and running it. This is the only
room that imports torch, transformers and onnxruntime, and it turns their errors into ours.

Does not belong here: requests, replicas, batching of events, placement.

`prepare.prepare` runs once, as a build step; `load.load` runs in every worker and is the wake, so
that module imports torch only for checkpoints that need it.
"""

from __future__ import annotations

import os

# ONNX Runtime's telemetry opens connections, and starts a thread when it is imported: a zygote
# that has a second thread cannot fork safely.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# The tokenizer's own thread pool would be one more set of threads in every worker.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
