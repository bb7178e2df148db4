"""From a module that is loaded to the task it does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.models.encoder import Model
from stoker.models.manifest import Manifest
from stoker.models.placement import device_of
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.task import TaskModel
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import ModelSettings, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CLASSES = {
    Task.TEXT_CLASSIFICATION: "text_classification:TextClassification",
    Task.TOKEN_CLASSIFICATION: "token_classification:TokenClassification",
    Task.FILL_MASK: "fill_mask:FillMask",
    Task.TEXT_GENERATION: "text_generation:TextGeneration",
    Task.IMAGE_CLASSIFICATION: "image_classification:ImageClassification",
    Task.AUTOMATIC_SPEECH_RECOGNITION: "speech_recognition:SpeechRecognition",
}
"""Names, so that a worker imports its own task's code only."""


def as_task(model: Model | TaskModel) -> TaskModel:
    """What `stoker.models.load.load` gave, as a task: an encoder becomes one."""
    if not isinstance(model, Model):
        return model
    from stoker.models.tasks.feature_extraction import FeatureExtraction

    return FeatureExtraction(model)


def open_task(
    module: PreTrainedModel, folder: Path, manifest: Manifest, settings: ModelSettings
) -> TaskModel:
    """Makes a task of a model.

    Args:
        module: of the class that `stoker.models.heads.AUTO_CLASS` has for the task, in evaluation
            mode, on its device.
        folder: the prepared checkpoint, with the tokenizer's or the processor's files.
        manifest: the checkpoint's.
        settings: what the function declares: the task and its adapters.

    Raises:
        UnusableModel: the folder lacks what the task needs, or an adapter does not fit.
    """
    if settings.task not in _CLASSES:
        raise UnusableModel(f"STOKER_TASK {settings.task} is not run by a module with a head")
    name, _, kind = _CLASSES[settings.task].partition(":")
    chosen = getattr(importlib.import_module(f"stoker.models.tasks.{name}"), kind)
    adapters = Adapters.load(module, settings.adapters)
    opened = chosen(module, manifest, folder, adapters)
    if device_of(module).type == "cuda" and chosen.card_block_cost:
        opened.block_cost = chosen.card_block_cost
    made: TaskModel = opened
    return made
