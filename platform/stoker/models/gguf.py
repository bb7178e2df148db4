"""A GGUF file as a model folder: dequantized once, when it is prepared.

transformers cannot save or map a model that is still packed as GGUF, and reading one takes 12 s
where safetensors take 0.1.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UnusableModel(f"{source.name!r} is a GGUF: reading it needs {', '.join(missing)}")
    with _read_once():
        _write(source, task, folder)
    return Source(source.name, folder, source.stamp)


def _write(source: Source, task: Task, folder: Path) -> None:
    import torch
    import transformers

    module = load_original(source, task, torch.float32)
    save_module(module, folder)  # transformers' own saver refuses what came of a GGUF
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(source.folder), gguf_file=source.gguf, local_files_only=True
        )
        tokenizer.save_pretrained(str(folder))
    except Exception as exc:  # transformers and gguf raise anything here
        raise UnusableModel(f"{source.folder / source.gguf} cannot be read: {exc}") from exc


@contextmanager
def _read_once() -> Iterator[None]:
    """Within it the file's header is parsed once, its names are mapped once, and no bar is drawn.

    transformers parses it for the configuration, the weights and the tokenizer each, seconds a
    time, and makes the table of all names anew for every module of the model.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as theirs

    kept: list[tuple[Any, str, Any]] = [
        (gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
        (gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        # Set here too, for a worker that prepares: TQDM_DISABLE is read when tqdm is imported.
        (theirs, "tqdm", functools.partial(theirs.tqdm, disable=True)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in kept]
    try:
        for module, name, ours in kept:
            setattr(module, name, ours)
        yield
    finally:
        for module, name, own in before:
            setattr(module, name, own)
