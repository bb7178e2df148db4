"""A model as its makers published it, through transformers.

From safetensors, GGUF or, if the user says so by name, pickled weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.heads import AUTO_CLASS
from stoker.models.safe_file import check_weights
from stoker.models.source import Source
from stoker.nouns.errors import StokerError, UnusableModel
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNUSED = {Task.FEATURE_EXTRACTION: ("pooler.",)}
"""Parts that a task never asks: whether the checkpoint has them does not matter."""
_REMOTE = "trust_remote_code"


def load_original(
    source: Source,
    task: Task,
    dtype: Any,
    *,
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """The model of a source with the head of a task, in evaluation mode, on the CPU.

    Safetensors in the wanted dtype are mapped, not copied.

    Args:
        source: where it lies.
        task: which head it must have.
        dtype: a torch dtype, or "auto" for the checkpoint's own.
        attention: transformers' name of the attention implementation; None is its choice.
        trust_remote_code: whether Python that comes with the model may run.

    Raises:
        UnusableModel: what is wrong with it.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    auto = getattr(transformers, AUTO_CLASS[task])
    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": attention,
        _REMOTE: trust_remote_code,
        "local_files_only": True,
        "output_loading_info": True,
    }
    check_weights(source)
    try:
        module, info = _read(auto, source, options)
    except StokerError:
        raise
    except Exception as exc:  # transformers and safetensors raise anything here
        raise _refusal(source, task, exc) from exc
    _check_complete(source, task, info)
    original: PreTrainedModel = module.eval()
    return original


def load_config(source: Source, *, trust_remote_code: bool = False) -> Any:
    """The configuration of a source.

    Raises:
        UnusableModel: it cannot be read.
    """
    import transformers

    options = {"gguf_file": source.gguf} if source.gguf else {}
    try:
        return transformers.AutoConfig.from_pretrained(
            str(source.folder), trust_remote_code=trust_remote_code, local_files_only=True,
            **options,
        )  # fmt: skip
    except Exception as exc:
        raise _refusal(source, Task.FEATURE_EXTRACTION, exc) from exc


def _read(auto: Any, source: Source, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    folder = str(source.folder)
    if source.gguf:
        module, info = auto.from_pretrained(folder, gguf_file=source.gguf, **options)
        # Says that the file was quantized; what was read no longer is.
        module.config.__dict__.pop("quantization_config", None)
        return module, info
    if source.pickled:
        return _unpickled(auto, source, options)
    found: tuple[Any, dict[str, Any]] = auto.from_pretrained(
        folder, use_safetensors=True, **options
    )
    return found


def _unpickled(auto: Any, source: Source, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Pickled weights, by torch's unpickler that knows tensors and nothing else."""
    import torch

    path = source.folder / source.pickled
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # pickle raises anything
        raise UnusableModel(f"{path} holds something else than tensors, or is cut: {exc}") from exc
    state = {name: one for name, one in state.items() if isinstance(one, torch.Tensor)}
    config = load_config(source, trust_remote_code=bool(options[_REMOTE]))
    if options["dtype"] == "auto":
        options = options | {
            "dtype": next(one.dtype for one in state.values() if one.is_floating_point())
        }
    trust = options.pop(_REMOTE)
    kind = type(auto.from_config(config, trust_remote_code=trust)) if trust else _kind(auto, config)
    found: tuple[Any, dict[str, Any]] = kind.from_pretrained(
        None, config=config, state_dict=state, **options
    )
    return found


def _kind(auto: Any, config: Any) -> Any:
    kinds = auto._model_mapping[type(config)]
    return kinds[0] if isinstance(kinds, tuple) else kinds


def _check_complete(source: Source, task: Task, info: dict[str, Any]) -> None:
    """Transformers fills what is missing with random numbers, and only warns."""
    unused = _UNUSED.get(task, ())
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(unused or "\0"))
    if missing:
        shown = ", ".join(missing[:4]) + (" …" if len(missing) > 4 else "")
        raise UnusableModel(
            f"STOKER_MODEL {source.name!r} has no weights for {len(missing)} tensors that "
            f"{task} needs: {shown}; take a checkpoint that was made for this STOKER_TASK"
        )
    if info.get("mismatched_keys"):
        raise UnusableModel(
            f"STOKER_MODEL {source.name!r}: shapes differ from its config.json: "
            f"{sorted(info['mismatched_keys'])[:4]}"
        )


def _refusal(source: Source, task: Task, exc: Exception) -> UnusableModel:
    text = f"{type(exc).__name__}: {exc}"
    if _REMOTE in str(exc):
        return UnusableModel(
            f"STOKER_MODEL {source.name!r} brings Python code of its own, which is not run unless "
            "STOKER_TRUST_REMOTE_CODE=1 says that you have read it"
        )
    kind = _model_type(source.folder)
    if "Unrecognized configuration class" in str(exc):
        return UnusableModel(
            f"STOKER_MODEL {source.name!r}: the architecture {kind!r} has no head for {task}"
        )
    if isinstance(exc, KeyError | ValueError) and kind and repr(kind).strip("'") in str(exc):
        return UnusableModel(
            f"STOKER_MODEL {source.name!r}: the architecture {kind!r} is not known to the "
            f"installed transformers: {text.partition('. ')[0]}"
        )
    return UnusableModel(f"{source.folder} cannot be loaded: {text}")


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_bytes()).get("model_type", ""))
    except (OSError, ValueError):
        return ""
