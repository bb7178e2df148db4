"""Where a prepared model's weights go, and by what its attention is computed.

Decided at the wake, because both depend on the devices that a worker has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.device import Target
from stoker.models.manifest import Manifest
from stoker.models.prepared import WEIGHTS
from stoker.models.safe_file import header
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Attention, Dtype, ModelSettings, Offload

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Open = Callable[[str | None], "PreTrainedModel"]
"""Opens the model with an implementation of attention; None leaves it to transformers."""


def place(
    opened: Open, folder: Path, manifest: Manifest, settings: ModelSettings, target: Target
) -> PreTrainedModel:
    """The model on the worker's devices.

    Raises:
        UnusableModel: it does not fit as declared, or its attention is not to be had.
    """
    module = with_attention(opened, manifest, settings.attention, target)
    if not settings.device_map:
        return module if target.kind == "cpu" else _tiled(module.to("cuda"))
    try:
        return _tiled(_dispatched(module, folder, settings, target))
    except (ValueError, RuntimeError, KeyError) as exc:
        raise UnusableModel(
            f"STOKER_DEVICE_MAP={settings.device_map} cannot be carried out: {exc}"
        ) from exc


def device_of(module: torch.nn.Module) -> torch.device:
    """Where a module's inputs go: where its first weights are that are anywhere.

    Those that are offloaded are on no device by themselves, and ``module.device`` would be that.
    """
    import torch

    devices = (one.device for one in module.parameters() if not one.is_meta)
    return next(devices, torch.device("cpu"))


def _tiled(module: PreTrainedModel) -> PreTrainedModel:
    """Int4 weights that have reached a card, in its own order: what is stored fits any."""
    for one in module.modules():
        tile = getattr(one, "for_card", None)
        if tile is not None and one.qdata.is_cuda:
            tile()
    return module


def with_attention(
    opened: Open, manifest: Manifest, attention: Attention, target: Target
) -> PreTrainedModel:
    """The model with the declared attention, or with the best that the device has.

    Raises:
        UnusableModel: the declared one is not to be had.
    """
    if attention is not Attention.AUTO:
        return opened(str(attention))
    for name in best_attention(target, manifest.dtype, _has):
        try:
            return opened(name)
        except UnusableModel:
            continue  # this architecture has not that one
    return opened(None)


def best_attention(target: Target, dtype: Dtype, has: Callable[[str], bool]) -> Iterator[str]:
    """Implementations to try before transformers' own choice (sdpa, else eager), best first.

    >>> hopper = Target("cuda", (9, 0))
    >>> list(best_attention(hopper, Dtype.BF16, lambda name: True))
    ['flash_attention_3', 'flash_attention_2']
    >>> list(best_attention(Target("cpu"), Dtype.BF16, lambda name: True))
    []
    """
    if target.kind != "cuda" or dtype not in (Dtype.BF16, Dtype.FP16):
        return
    if target.capability[0] == 9 and has("flash_attention_3"):
        yield "flash_attention_3"
    if target.capability >= (8, 0) and has("flash_attention_2"):
        yield "flash_attention_2"


def _has(name: str) -> bool:
    from transformers import utils

    number = name.removeprefix("flash_attention_")
    return bool(getattr(utils, f"is_flash_attn_{number}_available", lambda: False)())


def _dispatched(
    module: PreTrainedModel, folder: Path, settings: ModelSettings, target: Target
) -> PreTrainedModel:
    from accelerate import dispatch_model

    devices = _device_map(module, settings)
    _check_offload(devices, settings.offload, target)
    if set(devices.values()) == {"cpu"}:
        return module
    index = _on_disk(module, folder) if "disk" in devices.values() else None
    placed: PreTrainedModel = dispatch_model(module, devices, offload_index=index)
    return placed


def _device_map(module: PreTrainedModel, settings: ModelSettings) -> dict[str, Any]:
    from accelerate import infer_auto_device_map
    from accelerate.utils import check_device_map, get_balanced_memory, get_max_memory

    declared, whole = settings.device_map, list(module._no_split_modules or ())
    if declared.startswith("{"):
        devices: dict[str, Any] = json.loads(declared)
        check_device_map(module, devices)
        return devices
    memory = get_max_memory()
    if declared != "sequential":  # "auto" is "balanced", as in transformers
        memory = get_balanced_memory(
            module, memory, no_split_module_classes=whole, low_zero=declared == "balanced_low_0"
        )
    inferred: dict[str, Any] = infer_auto_device_map(module, memory, no_split_module_classes=whole)
    return inferred


def _check_offload(devices: dict[str, Any], offload: Offload, target: Target) -> None:
    """Weights that would go where nobody allowed them to make every request slow, silently."""
    allowed = {Offload.NONE: (), Offload.CPU: ("cpu",), Offload.DISK: ("cpu", "disk")}[offload]
    places = {str(device) for device in devices.values()}
    if target.kind == "cpu":
        places.discard("cpu")
    for place in ("disk", "cpu"):
        if place in places and place not in allowed:
            names = [name or "all of it" for name, one in devices.items() if str(one) == place]
            raise UnusableModel(
                f"{', '.join(names[:3])} would be kept on the {place}, and STOKER_OFFLOAD is "
                f"{str(offload)!r}: set it to {place!r}, or give the worker more devices"
            )


def _on_disk(module: PreTrainedModel, folder: Path) -> dict[str, dict[str, str]]:
    """Where accelerate finds each tensor: in the prepared file itself, so that none is written."""
    held = header(folder / WEIGHTS)
    state = module.state_dict()
    names = {tensor.data_ptr(): name for name, tensor in state.items() if name in held}
    index = {}
    for name, tensor in state.items():
        kept = name if name in held else names[tensor.data_ptr()]  # tied weights stand there once
        index[name] = {
            "safetensors_file": str(folder / WEIGHTS),
            "weight_name": kept,
            "dtype": str(tensor.dtype).removeprefix("torch."),
        }
    return index
