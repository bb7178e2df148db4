"""From a declaration to the way of preparing it, and the key that names the result."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from functools import cache

from stoker.models.manifest import Backend
from stoker.nouns.settings import ModelSettings, Quantization

RECIPE_VERSION = 1
"""Raised when a recipe's result changes, so that what older versions prepared is not taken."""

_LIBRARIES: dict[Backend, tuple[str, ...]] = {
    "torch": ("torch", "transformers", "safetensors", "tokenizers"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript", "torch", "transformers", "tokenizers"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one declaration is carried out on this machine."""

    settings: ModelSettings
    backend: Backend
    processor: str

    @property
    def declaration(self) -> str:
        """Names the declaration and what runs it, whatever the model's content is."""
        engine = str(importlib.import_module(self.backend).__version__)
        return _digest([*self._facts(), engine, self.settings.model])

    def key(self, source_digest: str) -> str:
        """Names the prepared checkpoint: source, recipe and every library that has a part in it."""
        return _digest([*self._facts(), sorted(self.libraries().items()), source_digest])

    def libraries(self) -> dict[str, str]:
        """The versions of what prepares it. Reads installed metadata, too slow for the wake."""
        return {name: _version(name) for name in _LIBRARIES[self.backend]}

    def _facts(self) -> list[object]:
        chosen = self.settings
        return [RECIPE_VERSION, chosen.task, chosen.quantization, self.backend, self.processor]


def choose(settings: ModelSettings) -> Recipe:
    """The recipe for a declaration on the CPU.

    int8 goes to ONNX Runtime: on a CPU it runs an encoder several times faster than torch's int8
    (docs/decisions/0003-int8-on-cpu.md). Everything else stays in torch.
    """
    if settings.quantization is Quantization.INT8:
        return Recipe(settings, "onnxruntime", processor())
    return Recipe(settings, "torch", "")


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def processor() -> str:
    """What of the CPU decides how ONNX Runtime packs weights: its instruction sets.

    Packed for one CPU and mapped on another, the weights would be read in the wrong order.
    """
    flags = ""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except FileNotFoundError:
        flags = platform.processor()
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:12]


def _digest(facts: list[object]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
