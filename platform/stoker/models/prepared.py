"""A prepared torch checkpoint as a module that answers: mapped, never copied.

Built on the meta device (no memory, no initialisation), given the file's tensors with
``assign=True``. Only what no file holds is computed: buffers such as rotary frequencies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.heads import AUTO_CLASS
from stoker.models.manifest import Manifest
from stoker.models.safe_file import write_aligned
from stoker.nouns.errors import StokerError, UnusableModel
from stoker.nouns.settings import Dtype

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"


def open_module(
    folder: Path, manifest: Manifest, *, attention: str | None = None
) -> PreTrainedModel:
    """The model of a prepared checkpoint with its head, on the CPU, in evaluation mode.

    Args:
        folder: the checkpoint.
        manifest: its own.
        attention: transformers' name of the attention implementation; None is its choice.

    Raises:
        UnusableModel: the checkpoint is damaged, or the attention is not to be had.
    """
    try:
        module = skeleton(folder, manifest, attention)
        _fill(module, folder, manifest)
    except StokerError:
        raise
    except Exception as exc:  # transformers, safetensors and torch raise anything here
        raise UnusableModel(f"{folder} cannot be loaded: {type(exc).__name__}: {exc}") from exc
    module = module.eval()
    if manifest.compiled:
        from stoker.models.compiled import run_compiled

        return run_compiled(module, folder, manifest.task, manifest.compiled)
    return module


def torch_dtype(dtype: Dtype) -> Any:
    """Torch's name of a float type; None for ``auto``."""
    return _torch_dtypes().get(dtype)


def dtype_of(module: PreTrainedModel) -> Dtype:
    """Of a module's weights; ``auto`` for one that has no name here."""
    found = (name for name, dtype in _torch_dtypes().items() if dtype is module.dtype)
    return next(found, Dtype.AUTO)


def _torch_dtypes() -> dict[Dtype, torch.dtype]:
    import torch

    return {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16, Dtype.FP16: torch.float16}


def skeleton(folder: Path, manifest: Manifest, attention: str | None) -> PreTrainedModel:
    """The model without its weights: they have a place and a type, and no memory."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    trust = manifest.trust_remote_code
    config = transformers.AutoConfig.from_pretrained(
        str(folder), trust_remote_code=trust, local_files_only=True
    )
    auto = getattr(transformers, AUTO_CLASS[manifest.task])
    dtype = torch_dtype(manifest.dtype) or config.dtype
    with _parameters_on_meta():
        module = auto.from_config(
            config, dtype=dtype, attn_implementation=attention, trust_remote_code=trust
        )
    if (folder / "generation_config.json").is_file() and module.can_generate():
        module.generation_config = transformers.GenerationConfig.from_pretrained(str(folder))
    made: PreTrainedModel = module
    return made


def _fill(module: PreTrainedModel, folder: Path, manifest: Manifest) -> None:
    from safetensors.torch import load_file

    tensors = load_file(folder / WEIGHTS)
    if manifest.modules:
        _place_quantized(module, manifest, tensors)
    # Not strict, because tied weights stand in the file once.
    loaded = module.load_state_dict(tensors, strict=False, assign=True)
    module.tie_weights()
    left = [name for name, one in module.state_dict().items() if one.is_meta]
    if left or loaded.unexpected_keys:
        raise UnusableModel(
            f"{folder / WEIGHTS} does not fit its config.json: missing {left[:4]}, "
            f"unexpected {loaded.unexpected_keys[:4]}"
        )
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    if manifest.narrow:
        from stoker.models.narrow import widen_when_called

        widen_when_called(module)


def _place_quantized(
    module: PreTrainedModel, manifest: Manifest, tensors: dict[str, torch.Tensor]
) -> None:
    from stoker.models.quantize.linears import SCHEMES
    from stoker.models.quantize.make import rebuilt, set_module

    for name, how in manifest.modules.items():
        own = {key: tensors.pop(f"{name}.{key}") for key in SCHEMES[how.scheme].TENSORS}
        linear: Any = module.get_submodule(name)
        set_module(module, name, rebuilt(linear, how, own))


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters take no memory; buffers are real, because those that no file holds must be."""
    from accelerate import init_empty_weights
    from transformers import initialization

    with init_empty_weights(include_buffers=False), initialization.no_init_weights():
        yield


def save_module(module: PreTrainedModel, folder: Path) -> None:
    """Writes configuration and weights so that `open_module` maps them; tied weights once."""
    # Before any forward: bitsandbytes' layers change their weights at the first.
    module.config.save_pretrained(str(folder))
    if module.can_generate() and module.generation_config is not None:
        text = module.generation_config.to_json_string(use_diff=False)
        (folder / "generation_config.json").write_text(json.dumps(json.loads(text)))
    kept: dict[str, torch.Tensor] = {}
    places: set[tuple[int, object]] = set()
    for name, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in places or tensor.numel() == 0:
            places.add(place)
            kept[name] = tensor
    write_aligned(folder / WEIGHTS, kept)
