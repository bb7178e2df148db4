"""From a prepared checkpoint to a model that answers: what every worker does when it wakes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models import held, resting
from stoker.models.compress import inputs
from stoker.models.device import target
from stoker.models.encoder import Model, Session
from stoker.models.manifest import Manifest
from stoker.models.recipe import choose
from stoker.models.shelf import Progress, Shelf
from stoker.models.source import find
from stoker.models.tokens import Tokens
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load(
    settings: ModelSettings, home: Home, *, threads: int = 1, progress: Progress | None = None
) -> Any:
    """Loads what the settings declare, preparing it first if no build step has.

    Safe in a child forked from a process that has only imported libraries.

    Args:
        settings: what the function declares.
        home: where prepared checkpoints lie.
        threads: CPU threads that one call of the model may use.
        progress: told what happens when it must be prepared first.

    Returns:
        An `Model` for ``feature-extraction``; for other tasks what `stoker.models.tasks` makes of
        the module. Both have ``manifest``, ``folder`` and ``load_seconds``.

    Raises:
        UnusableModel: no model is declared, or it cannot be used.
        InsufficientStorage: it had to be prepared and the disk is full.
    """
    if not settings.model:
        raise UnusableModel("STOKER_MODEL is not set, so there is no model to load")
    started = time.monotonic()
    folder = _ready(settings, home) or _prepared(settings, home, progress)
    model = open_checkpoint(folder, settings, threads=threads)
    held.note(model.manifest.key, model.manifest.bytes_after)
    resting.leaves_a_simulated_card(os.environ)
    model.load_seconds = time.monotonic() - started
    return model


def open_checkpoint(
    folder: Path, settings: ModelSettings | None = None, *, threads: int = 1
) -> Any:
    """Opens one prepared checkpoint; see `load`.

    Raises:
        UnusableModel: it is damaged.
    """
    manifest, settings = Manifest.of(folder), settings or ModelSettings()
    if manifest.task is Task.FEATURE_EXTRACTION:
        tokens = Tokens.of(folder, manifest.max_tokens)
        opened = session(folder, manifest, settings, threads=threads)
        return Model(opened, tokens, manifest, folder, getattr(opened, "adapters", None))
    from stoker.models.tasks import open_task

    module = load_module(folder, manifest, settings, threads=threads)
    opened_task = open_task(module, folder, manifest, settings)
    if settings.tensor_parallel == 1:
        # With its adapters, which would stay there.
        resting.leaves_its_card(module, manifest.key)
    return opened_task


def load_module(
    folder: Path, manifest: Manifest, settings: ModelSettings, *, threads: int = 1
) -> PreTrainedModel:
    """The ready torch model of a prepared checkpoint, with its head, on this worker's devices.

    Raises:
        UnusableModel: the checkpoint is damaged, or does not fit where it should go.
    """
    import torch

    if settings.tensor_parallel > 1:
        from stoker.models.parallel.split_load import load_split

        torch.set_num_threads(threads)
        return load_split(folder, manifest, settings, threads=threads)
    from stoker.models.placement import place
    from stoker.models.prepared import open_module

    torch.set_num_threads(threads)
    return place(
        lambda attention: open_module(folder, manifest, attention=attention),
        folder, manifest, settings, target(),
    )  # fmt: skip


def session(
    folder: Path, manifest: Manifest, settings: ModelSettings | None = None, *, threads: int
) -> Session:
    """The back end that the manifest names, holding the folder's weights."""
    if manifest.backend == "onnxruntime":
        from stoker.models.onnx_session import OnnxSession

        return OnnxSession(folder, threads=threads)
    from stoker.models.tasks.adapters import Adapters
    from stoker.models.torch_session import TorchSession

    settings = settings or ModelSettings()
    module = load_module(folder, manifest, settings, threads=threads)
    adapters = Adapters.load(module, settings.adapters)
    if settings.tensor_parallel == 1:
        # With its adapters, which would stay there.
        resting.leaves_its_card(module, manifest.key)
    return TorchSession(module, manifest.pooling, adapters)


def thread_share(env: Mapping[str, str]) -> int:
    """CPU threads of this worker: ``OMP_NUM_THREADS``, which the platform sets to its share."""
    declared = env.get("OMP_NUM_THREADS", "")
    return max(1, int(declared)) if declared.isdigit() else 1


def _ready(settings: ModelSettings, home: Home) -> Path | None:
    """The checkpoint of an earlier preparation, if the source's files are still the same.

    Looks at names, sizes and times only: reading the source's bytes would cost more than the wake.
    """
    recipe, shelf = choose(settings), Shelf(home.models)
    note = shelf.recall(recipe.declaration)
    if not note.get("key"):
        return None
    found = find(settings.model, local=True, pickled=settings.pickled_weights)
    if note.get("stamp") != found.stamp:
        return None
    taught_on = inputs.stamp(settings)
    if taught_on and note.get("inputs") != taught_on:
        return None
    return shelf.find(str(note["key"]))


def _prepared(settings: ModelSettings, home: Home, progress: Progress | None) -> Path:
    from stoker.models.prepare import prepare

    return prepare(settings, home, progress or (lambda _: None)).folder


def load_from(env: Mapping[str, str], progress: Progress | None = None) -> Any:
    """`load` by a worker's environment."""
    home = Home.at(env.get("STOKER_HOME") or os.environ.get("STOKER_HOME"))
    return load(ModelSettings.read(env), home, threads=thread_share(env), progress=progress)
