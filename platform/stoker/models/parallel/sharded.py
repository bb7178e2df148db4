"""One rank's part of a prepared model: split by transformers' plan, read in slices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.decide.ranks import indivisible
from stoker.models.manifest import Manifest
from stoker.models.prepared import WEIGHTS, skeleton
from stoker.nouns.errors import StokerError, UnusableModel

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

_HEADS = ("num_attention_heads", "num_key_value_heads")


def check_split(config: Any, ranks: int) -> None:
    """Refuses what cannot be split over so many ranks.

    Args:
        config: transformers' configuration of the model.
        ranks: processes.

    Raises:
        UnusableModel: no plan, or heads that do not come out even, with what would.
    """
    text = config.get_text_config(decoder=True)
    variable = f"STOKER_TENSOR_PARALLEL={ranks}"
    if not getattr(text, "base_model_tp_plan", None):
        raise UnusableModel(
            f"{variable}: transformers has no plan by which {config.model_type!r} is split; the "
            "nearest that works is 1, with STOKER_DEVICE_MAP=auto to spread the layers over a "
            "worker's cards"
        )
    found = {name: getattr(text, name, None) for name in _HEADS}
    counts = {name: count for name, count in found.items() if isinstance(count, int)}
    wrong = indivisible(ranks, counts)
    if wrong:
        raise UnusableModel(
            f"{variable} does not divide the heads of {config.model_type!r}: {wrong}"
        )


def check_folder(folder: Path, ranks: int, *, trust: bool) -> None:
    """`check_split` of a folder's ``config.json``.

    Raises:
        UnusableModel: it cannot be split so, or read.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(
            str(folder), trust_remote_code=trust, local_files_only=True
        )
    except Exception as exc:  # transformers raises anything here
        raise UnusableModel(f"{folder} has no config.json that can be read: {exc}") from exc
    check_split(config, ranks)


def open_part(
    folder: Path, manifest: Manifest, mesh: DeviceMesh, *, attention: str | None = None
) -> PreTrainedModel:
    """This rank's part of a prepared model, on its device, in evaluation mode.

    The file is mapped; what other ranks hold is never read.

    Args:
        folder: the checkpoint.
        manifest: its own.
        mesh: the ranks, along one axis.
        attention: transformers' name of the attention implementation; None is its choice.

    Raises:
        UnusableModel: it cannot be split, or the checkpoint is damaged.
    """
    try:
        module = skeleton(folder, manifest, attention)
        check_split(module.config, mesh.size())
        _divide(module, mesh)
        _fill(module, folder, mesh)
    except StokerError:
        raise
    except Exception as exc:  # transformers, safetensors and torch raise anything here
        raise UnusableModel(
            f"{folder} cannot be split over {mesh.size()} processes: {type(exc).__name__}: {exc}"
        ) from exc
    if module.generation_config is not None:
        # Peers make caches of the plain, growing kind.
        module.generation_config.cache_implementation = None
    return module.eval()


def _divide(module: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Each parameter becomes this rank's part of it, still without memory.

    transformers does it within ``from_pretrained``, where it also chooses the device: the first
    accelerator of the machine, be it this worker's or not.
    """
    from transformers.distributed import DistributedConfig
    from transformers.distributed.tensor_parallel import apply_tensor_parallelism

    resolve = getattr(module, "_resolve_parallel_plans", None)
    if resolve is None:  # an earlier 5.x: it takes the module's own plan
        apply_tensor_parallelism(module, mesh)
    else:
        plan, _, _ = resolve(DistributedConfig(tp_size=mesh.size()))
        apply_tensor_parallelism(module, mesh, plan)
    module._tp_size = mesh.size()
    module._device_mesh = mesh


def _fill(module: PreTrainedModel, folder: Path, mesh: DeviceMesh) -> None:
    from safetensors import safe_open

    device, own = mesh.device_type, {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        held = set(file.keys())
        for name, tensor in module.state_dict().items():
            if name in held:
                own[name] = _part(tensor, file.get_slice(name), mesh)
    loaded = module.load_state_dict(own, strict=False, assign=True)
    module.tie_weights()
    left = [name for name, one in module.state_dict().items() if one.is_meta]
    unexpected = sorted(held - own.keys())
    if left or loaded.unexpected_keys or unexpected:
        raise UnusableModel(
            f"{folder / WEIGHTS} does not fit its config.json: missing {left[:4]}, "
            f"unexpected {unexpected[:4]}"
        )
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)


def _part(tensor: Any, stored: Any, mesh: DeviceMesh) -> Any:
    """This rank's part of a stored tensor, in memory of its own, which it can leave and retake."""
    import torch
    from torch.distributed.tensor import DTensor
    from transformers.distributed.sharding_utils import DtensorShardOperation

    def own(part: torch.Tensor) -> torch.Tensor:
        return part.to(mesh.device_type, copy=True, memory_format=torch.contiguous_format)

    if not isinstance(tensor, DTensor):
        return own(stored[...])
    local = DtensorShardOperation(tensor).shard_tensor(stored)
    if local is None:
        raise UnusableModel("a tensor of the file has no part for this rank")
    return DTensor.from_local(
        own(local), mesh, tensor.placements,
        run_check=False, shape=tensor.shape, stride=tensor.stride(),
    )  # fmt: skip
