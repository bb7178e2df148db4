"""What a prepared checkpoint says about itself: ``manifest.json`` beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stoker.models.compress.facts import Distilled, Pruned
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Dtype, Quantization, Task

MANIFEST = "manifest.json"
Backend = Literal["torch", "torchao", "bitsandbytes", "onnxruntime", "neural-compressor"]


class Fidelity(BaseModel):
    """How near the checkpoint's answers to the same inputs are to the fp32 original's.

    Attributes:
        measure: ``cosine`` of vectors (1 is equal), ``perplexity`` as a ratio (1 is equal), or
            ``distance``, the total variation between output distributions (0 is equal, 1 is most).
        texts: inputs compared.
        mean: over all of them.
        worst: of them.
    """

    model_config = ConfigDict(frozen=True)

    measure: Literal["cosine", "perplexity", "distance"] = "cosine"
    texts: int
    mean: float
    worst: float


class Quantized(BaseModel):
    """One module whose weight is quantized: what is needed to build it before its weights come.

    Attributes:
        scheme: a name of `stoker.models.quantize.linears.SCHEMES`.
        packed: whether the weight lies in the order of the CPU's kernels.
    """

    model_config = ConfigDict(frozen=True)

    scheme: str
    packed: bool = False


class Calibrated(BaseModel):
    """What a method calibrated on; `stoker.models.seen_texts` has the texts' fingerprints.

    Attributes:
        texts: different ones that the declared file has.
        used: of them, from the first on, that the model was shown.
        tokens: that those had together.
        digest: SHA-256 of the file.
    """

    model_config = ConfigDict(frozen=True)

    texts: int
    used: int
    tokens: int
    digest: str


class Manifest(BaseModel):
    """How a checkpoint was made, and what it is.

    Attributes:
        key: the name of its folder: source digest, recipe and library versions, hashed.
        method: what the back end was asked for.
        dtype: of activations and of weights that are not quantized; ``auto``: the original's.
        narrow: whether those weights are kept in bf16 all the same: see `stoker.models.narrow`.
        device: the kind that it was prepared for.
        bytes_before, bytes_after: of the weights on disk; ``after`` counts what workers map.
        replaced: modules whose weights are in the declared numbers now.
        skipped: modules with a weight matrix that was left as it was.
        reasons: why each of those was.
        modules: how to build those that are not plain torch.
        compiled: inputs that `stoker.models.compiled` runs; empty: the model is not compiled.
        calibration: what it was calibrated on, where the method does.
        seconds: what the preparation took.
        read_seconds: to read the weights once from the page cache, where it was prepared.
        dimension: length of the vectors.
        max_tokens: longer texts are cut there.
        pruned, distilled: how it was made smaller before it was quantized, if it was.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    key: str
    model: str
    source_digest: str
    task: Task
    quantization: Quantization
    backend: Backend
    method: str = ""
    dtype: Dtype = Dtype.AUTO
    narrow: bool = False
    device: str = "cpu"
    trust_remote_code: bool = False
    bytes_before: int
    bytes_after: int = 0
    replaced: list[str] = Field(default_factory=list)
    skipped: list[str] = Field(default_factory=list)
    reasons: dict[str, str] = Field(default_factory=dict)
    modules: dict[str, Quantized] = Field(default_factory=dict)
    compiled: list[str] = Field(default_factory=list)
    calibration: Calibrated | None = None
    seconds: float = 0.0
    read_seconds: float = 0.0
    libraries: dict[str, str] = Field(default_factory=dict)
    pooling: str = "mean"
    dimension: int = 0
    max_tokens: int = 512
    fidelity: Fidelity | None = None
    pruned: Pruned | None = None
    distilled: Distilled | None = None

    def write(self, folder: Path) -> None:
        """Writes it into ``folder``."""
        (folder / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def of(cls, folder: Path) -> Manifest:
        """Reads the manifest of a prepared checkpoint.

        Raises:
            UnusableModel: it is missing or damaged.
        """
        try:
            return cls.model_validate_json((folder / MANIFEST).read_bytes())
        except (OSError, ValidationError) as exc:
            raise UnusableModel(f"{folder} is no prepared checkpoint: {exc}") from exc
