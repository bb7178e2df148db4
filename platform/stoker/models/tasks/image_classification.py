"""Pictures to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec
from stoker.models.placement import device_of
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.classes import ClassParameters, Labels
from stoker.models.tasks.pictures import picture, pictures_in
from stoker.models.tasks.task import TaskBase, bytes_in
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class ImageClassification(TaskBase["torch.Tensor", ClassParameters]):
    """``[{"label", "score"}, …]`` for each picture.

    An input is base64, a ``data:`` URL, raw bytes, or a picture of pillow's.
    """

    task = Task.IMAGE_CLASSIFICATION
    parameters_type = ClassParameters
    block_cost = 16
    card_block_cost = 64

    def __init__(
        self, module: PreTrainedModel, manifest: Manifest, folder: Path, adapters: Adapters
    ) -> None:
        super().__init__(manifest, folder, adapters)
        self._module = module
        self._device = device_of(module)
        self._processor = _processor(folder, trust=manifest.trust_remote_code)
        self._labels = Labels(module.config, manifest)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`: files of pictures; pixels are taken too, as UINT8 [n, h, w, 3]."""
        return (TensorSpec("image", "BYTES", (-1,)),)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return self._labels.specs()

    def read(self, value: Any, _options: ClassParameters) -> torch.Tensor:
        """See `TaskModel`."""
        processed = self._processor(images=picture(value), return_tensors="pt")
        pixels: torch.Tensor = processed["pixel_values"][0]
        return pixels

    def kind(self, item: torch.Tensor, _options: ClassParameters) -> tuple[int, ...]:
        """Some processors keep a picture's own size."""
        return tuple(item.shape)

    def forward(self, items: Sequence[torch.Tensor], options: ClassParameters) -> list[Any]:
        """See `TaskBase`."""
        import torch

        with torch.inference_mode():
            pixels = torch.stack(list(items)).to(self._device, self._module.dtype)
            logits = self._module(pixel_values=pixels).logits
        return self._labels.results(logits, options)

    def inputs_from(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """See `TaskModel`."""
        tensor = self._only(tensors)
        return pictures_in(tensor) if tensor.datatype == "UINT8" else list(bytes_in(tensor))

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        return self._labels.tensors(results)


def _processor(folder: Path, *, trust: bool) -> Any:
    import transformers

    try:
        # torchvision's is faster and is not always there; this one needs pillow alone.
        return transformers.AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", trust_remote_code=trust, local_files_only=True
        )
    except Exception as exc:  # transformers raises anything here
        raise UnusableModel(f"{folder} has no image processor that can be read: {exc}") from exc
