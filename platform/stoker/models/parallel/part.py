"""A rank's part of a model with the attention that was declared, alike on all ranks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stoker.models.device import target
from stoker.models.manifest import Manifest
from stoker.models.parallel.sharded import open_part
from stoker.models.placement import with_attention
from stoker.nouns.settings import ModelSettings

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel


def placed_part(
    folder: Path, manifest: Manifest, settings: ModelSettings, mesh: DeviceMesh
) -> PreTrainedModel:
    """`open_part`, with the best attention that this kind of device has, or the declared one.

    Raises:
        UnusableModel: it cannot be split, or its attention is not to be had.
    """
    return with_attention(
        lambda attention: open_part(folder, manifest, mesh, attention=attention),
        manifest, settings.attention, target(),
    )  # fmt: skip
