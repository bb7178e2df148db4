"""The prepared checkpoint of a trial: its manifest, and what its file really holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.decide.gate import CheckpointFacts
from stoker.models.inspect_checkpoint import quantized_modules
from stoker.models.manifest import Manifest
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a worker of the trial maps.

    Attributes:
        manifest: None where the home is elsewhere, or the checkpoint is damaged: ``unknown`` says.
        found: modules whose weights are quantized, counted in its file.
    """

    weight_bytes: int
    manifest: Manifest | None
    found: int
    unknown: str = ""

    @classmethod
    def of(cls, status: Mapping[str, Any] | None, home: Path | None) -> Checkpoint | None:
        """The checkpoint that a function's status names; None where it has no model."""
        if not status:
            return None
        weights = int(status["weights"])
        if home is None:
            return cls(weights, None, 0, "the platform's home is not on this machine; name --home")
        folder = Home.at(home).models / str(status["key"])
        try:
            manifest = Manifest.of(folder)
            found = 0 if manifest.quantization.is_cast else quantized_modules(folder)
        except UnusableModel as exc:
            return cls(weights, None, 0, exc.message)
        return cls(manifest.bytes_after or weights, manifest, found)

    @property
    def prepare_s(self) -> float:
        """What preparing it took, when it was."""
        return self.manifest.seconds if self.manifest else 0.0

    def facts(self, *, cast: bool) -> CheckpointFacts:
        """For the gate. ``cast``: by what the recipe declares."""
        if self.manifest is None:
            return CheckpointFacts(cast=cast, claimed=0, found=0, unknown=self.unknown)
        return CheckpointFacts(cast, len(self.manifest.replaced), self.found)

    def document(self) -> dict[str, Any] | None:
        """The manifest as JSON."""
        return self.manifest.model_dump(mode="json") if self.manifest else None
