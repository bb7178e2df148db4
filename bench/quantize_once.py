"""One prepared checkpoint in a fresh process: its load, its memory, its speed, its quality.

``python bench/quantize_once.py`` reads the function's variables and ``STOKER_HOME`` from its
environment and prints one JSON object. The libraries are imported first, as in a zygote.
"""

from __future__ import annotations

import ast
import ctypes
import gc
import json
import os
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOADS = 5
CALLS = 15
PROMPT, STEPS = 16, 12
BLOCKS, BLOCK = 4, 256
SOURCES = ("argparse.py", "subprocess.py", "threading.py", "logging/__init__.py", "random.py")


def main() -> None:
    """Measures what the environment declares."""
    import torch

    from stoker.models.build import read_seconds, weight_bytes
    from stoker.models.load import load_module, open_checkpoint
    from stoker.models.prepare import prepare
    from stoker.nouns.home import Home
    from stoker.nouns.settings import ModelSettings, Task

    torch.set_num_threads(1)
    settings = ModelSettings.read(os.environ)
    made = prepare(settings, Home.at(), lambda _: None)
    if made.built:
        # What preparing left in this process would count as the model's memory, or hide it.
        os.execv(sys.executable, [sys.executable, *sys.argv])
    folder, manifest = made.folder, made.manifest
    encoder = settings.task is Task.FEATURE_EXTRACTION
    imported(manifest.backend)

    def opened() -> Any:
        if encoder:
            return open_checkpoint(folder, settings)
        return load_module(folder, manifest, settings)

    before = private()
    model = opened()
    call(model, encoder)
    held = mapped(folder) + private() - before
    loads = [seconds(opened) for _ in range(LOADS)]
    reading = statistics.median(seconds(lambda: read_seconds(folder)) for _ in range(3))
    facts = {
        "folder": str(folder),
        "weight_bytes": weight_bytes(folder),
        "memory_bytes": held,
        "load_s": statistics.median(loads),
        "read_s": reading,
        "replaced": len(manifest.replaced),
        "method": f"{manifest.backend} {manifest.method}",
        "seconds": manifest.seconds,
        **speed(model, encoder),
    }
    facts["quality"] = manifest.fidelity.mean if encoder else perplexity(model, folder)
    print(json.dumps(facts))


def imported(backend: str) -> None:
    """What a worker's zygote has imported, and what bitsandbytes needs besides."""
    import importlib

    names = ["transformers", "transformers.modeling_utils", "accelerate", "safetensors.torch"]
    names += ["transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama"]
    names += ["onnxruntime", "tokenizers", "stoker.models.quantize.make"]
    names += ["bitsandbytes"] if backend == "bitsandbytes" else []
    for name in names:
        importlib.import_module(name)


def private() -> int:
    """Bytes that only this process holds and that no file backs.

    Without what was freed and the allocator keeps, such as a first answer's activations.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/smaps_rollup") as lines:
        found = {line.split()[0]: line.split()[1] for line in lines if line.startswith("Pss_Anon")}
    return 1024 * int(found["Pss_Anon:"])


def mapped(folder: Path) -> int:
    """Bytes of the checkpoint that are in memory through this process's mappings."""
    total, ours = 0, False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            words = line.split()
            if not words[0].endswith(":"):
                ours = str(folder) in line
            elif words[0] == "Pss:" and ours:
                total += 1024 * int(words[1])
    return total


def call(model: Any, encoder: bool) -> None:
    """The first answer: from then on all weights are in memory."""
    import torch

    if encoder:
        model.encode(["wake"])
        return
    with torch.inference_mode():
        model(input_ids=torch.ones(1, PROMPT, dtype=torch.long))


def speed(model: Any, encoder: bool) -> dict[str, float]:
    """Milliseconds of one call (encoders) or one decoded token, alone and of sixteen at once."""
    if not encoder:
        return {"b1_ms": decode(model, 1), "b16_ms": decode(model, 16)}
    from texts import TEXTS

    return {
        "b1_ms": 1000 * median(lambda: model.encode(TEXTS[:1])),
        "b16_ms": 1000 * median(lambda: model.encode(TEXTS)),
    }


def decode(model: Any, rows: int) -> float:
    """Milliseconds of one step that makes one token a row."""
    import torch

    ids = torch.arange(5, 5 + PROMPT).repeat(rows, 1)
    taken = []
    with torch.inference_mode():
        output = model(input_ids=ids, use_cache=True)
        for _ in range(STEPS):
            token, past = output.logits[:, -1:].argmax(-1), output.past_key_values
            start = time.process_time()
            output = model(input_ids=token, past_key_values=past, use_cache=True)
            taken.append(time.process_time() - start)
    return 1000 * statistics.median(taken)


def perplexity(model: Any, folder: Path) -> float:
    """On docstrings of the standard library."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    ids = tokenizer(docstrings(), return_tensors="pt").input_ids[0, : BLOCKS * BLOCK]
    with torch.inference_mode():
        losses = [
            float(model(input_ids=one[None], labels=one[None]).loss) for one in ids.split(BLOCK)
        ]
    return float(torch.tensor(losses).mean().exp())


def docstrings() -> str:
    """Texts that every machine with this Python has."""
    root, found = Path(sysconfig.get_paths()["stdlib"]), []
    for name in SOURCES:
        for node in ast.walk(ast.parse((root / name).read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                found.append(ast.get_docstring(node) or "")
    return "\n\n".join(text for text in found if len(text) > 80)


def seconds(what: Callable[[], Any]) -> float:
    """Processor time, which on one thread is the time that it takes when nobody else computes."""
    start = time.process_time()
    what()
    return time.process_time() - start


def median(what: Callable[[], Any]) -> float:
    """Of some calls, after two that warm up."""
    what(), what()
    return statistics.median(seconds(what) for _ in range(CALLS))


if __name__ == "__main__":
    sys.exit(main())
