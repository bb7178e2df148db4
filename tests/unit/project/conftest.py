from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A file of the checkout as a module; it may not import stoker while it is loaded."""

    def load_file(path: str) -> ModuleType:
        file = ROOT / path
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        known = {name for name in sys.modules if name.partition(".")[0] == "stoker"}
        spec.loader.exec_module(module)
        assert {name for name in sys.modules if name.partition(".")[0] == "stoker"} == known
        return module

    return load_file


class Encoder:
    """Stands for the model: one dimension a word of a fixed list."""

    WORDS = ("shares", "goal", "film", "minister", "software")

    def __init__(self) -> None:
        self.manifest = type("Manifest", (), {"key": "m1"})
        self.calls = 0

    def encode(self, texts: list[str]) -> np.ndarray[Any, Any]:
        self.calls += 1
        rows = [[0.1 + text.lower().count(word) for word in self.WORDS] for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """What ``stoker.sdk.load_model`` gives."""
    import stoker.sdk

    made = Encoder()
    monkeypatch.setattr(stoker.sdk, "load_model", lambda _context: made, raising=False)
    return made
