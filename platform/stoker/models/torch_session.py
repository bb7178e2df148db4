"""Running a model with torch: prepared checkpoints, and the original they are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.models.encoder import Vectors
from stoker.models.placement import device_of
from stoker.models.tokens import Ids

if TYPE_CHECKING:
    import torch

    from stoker.models.tasks.adapters import Adapters


_BLOCK_TOKENS = {"cpu": 256, "cuda": 8192}
"""Above it a block falls out of a core's cache and each text in it gets slower; below it the cost
of a call shows. On a card that cost is all there is for a few hundred tokens."""


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
    """An encoder held by torch.

    Attributes:
        block_tokens: see `stoker.models.encoder.Session`.
        module: the encoder.
        adapters: what lies over it, for a request to choose.
    """

    def __init__(
        self, module: torch.nn.Module, pooling: str, adapters: Adapters | None = None
    ) -> None:
        self.module = module
        self.adapters = adapters
        self._pooling = pooling
        self._device = device_of(module)
        self.block_tokens = _BLOCK_TOKENS.get(self._device.type, _BLOCK_TOKENS["cpu"])

    def run(self, ids: Ids, mask: Ids) -> Vectors:
        """See `stoker.models.encoder.Session`."""
        import torch

        with torch.inference_mode():
            attention = torch.from_numpy(mask).to(self._device)
            inputs = torch.from_numpy(ids).to(self._device)
            hidden = self.module(input_ids=inputs, attention_mask=attention).last_hidden_state
            vectors: Vectors = pooled(hidden, attention, self._pooling).cpu().numpy()
        return vectors
