"""Running a model with torch: prepared checkpoints, and the original they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.encoder import Vectors
from stoker.models.tokens import Ids
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load_module(folder: Path, dtype: Any, *, attention: str = "sdpa") -> PreTrainedModel:
    """The bare encoder of a folder, in evaluation mode.

    Safetensors in the wanted dtype are mapped, not copied; pickled weights and code that comes
    with the model are never read.

    Args:
        folder: with config.json and safetensors.
        dtype: a torch dtype, or "auto" for the checkpoint's own.
        attention: transformers' name of the attention implementation.

    Raises:
        UnusableModel: whatever transformers has against it, in its words.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        module = transformers.AutoModel.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except Exception as exc:  # transformers and safetensors raise anything here
        raise UnusableModel(f"{folder} cannot be loaded: {type(exc).__name__}: {exc}") from exc
    return module.eval()


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Token vectors [n, tokens, dimension] to normalised vectors [n, dimension], in float32."""
    import torch

    hidden = hidden.to(torch.float32)
    weight = mask.unsqueeze(-1).to(torch.float32)
    if pooling == "cls":
        vectors = hidden[:, 0]
    elif pooling == "max":
        vectors = hidden.masked_fill(weight == 0, -1e9).amax(1)
    else:
        vectors = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(vectors, dim=-1)


class TorchSession:
    """An encoder held by torch."""

    block_tokens = 256
    """Above it a block falls out of a core's cache and each text in it gets slower; below it the
    cost of a call shows."""

    def __init__(self, module: torch.nn.Module, pooling: str) -> None:
        self._module = module
        self._pooling = pooling

    @classmethod
    def of(cls, folder: Path, pooling: str, *, threads: int) -> TorchSession:
        """Loads a prepared checkpoint in the dtype it has on disk, on ``threads`` threads."""
        import torch

        torch.set_num_threads(threads)
        return cls(load_module(folder, "auto"), pooling)

    def run(self, ids: Ids, mask: Ids) -> Vectors:
        """See `stoker.models.encoder.Session`."""
        import torch

        with torch.inference_mode():
            attention = torch.from_numpy(mask)
            output = self._module(input_ids=torch.from_numpy(ids), attention_mask=attention)
            vectors: Vectors = pooled(output.last_hidden_state, attention, self._pooling).numpy()
        return vectors
