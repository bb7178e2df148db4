"""What a prepared checkpoint says about itself: ``manifest.json`` beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Quantization, Task

MANIFEST = "manifest.json"
Backend = Literal["torch", "onnxruntime"]


class Fidelity(BaseModel):
    """Cosine between this checkpoint's and the fp32 original's vectors of the same texts."""

    model_config = ConfigDict(frozen=True)

    texts: int
    mean: float
    least: float


class Manifest(BaseModel):
    """How a checkpoint was made, and what it is.

    Attributes:
        key: the name of its folder: source digest, recipe and library versions, hashed.
        bytes_before, bytes_after: of the weights on disk; ``after`` counts what workers map.
        replaced: modules whose weights are in the declared numbers now.
        skipped: modules with a weight matrix that was left as it was.
        seconds: what the preparation took.
        dimension: length of the vectors.
        max_tokens: longer texts are cut there.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    key: str
    model: str
    source_digest: str
    task: Task
    quantization: Quantization
    backend: Backend
    device: str = "cpu"
    bytes_before: int
    bytes_after: int = 0
    replaced: list[str] = Field(default_factory=list)
    skipped: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    libraries: dict[str, str] = Field(default_factory=dict)
    pooling: str = "mean"
    dimension: int = 0
    max_tokens: int = 512
    fidelity: Fidelity | None = None

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
