"""A GGUF file as a model folder: dequantized once, when it is prepared.

transformers cannot save or map a model that is still packed as GGUF, and reading one takes 12 s
where safetensors take 0.1.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from stoker.models.original import load_original
from stoker.models.prepared import save_module
from stoker.models.source import Source
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Task

_NEEDS = ("gguf", "accelerate")


def dequantized(source: Source, task: Task, folder: Path) -> Source:
    """The model in fp32, with its tokenizer, written into ``folder``.

    Raises:
        UnusableModel: the file cannot be read, or the library that reads it is not installed.
    """
    import torch
    import transformers

    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UnusableModel(f"{source.name!r} is a GGUF: reading it needs {', '.join(missing)}")
    module = load_original(source, task, torch.float32)
    save_module(module, folder)  # transformers' own saver refuses what came of a GGUF
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(source.folder), gguf_file=source.gguf, local_files_only=True
        )
        tokenizer.save_pretrained(str(folder))
    except Exception as exc:  # transformers and gguf raise anything here
        raise UnusableModel(f"{source.folder / source.gguf} cannot be read: {exc}") from exc
    return Source(source.name, folder, source.stamp)
