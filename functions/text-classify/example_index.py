"""Labelled examples and the index of their vectors, kept on disk by content."""

import hashlib
import importlib.util
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WORDS = 100


@dataclass(frozen=True)
class Examples:
    """Texts, their labels, and a digest of both."""

    texts: list
    labels: list
    names: list
    digest: str


@dataclass(frozen=True)
class Index:
    """Vectors of length 1 [examples, dimension] that ``model`` made, with their labels."""

    vectors: np.ndarray
    labels: list
    names: list
    model: str

    def classify(self, vectors, neighbours):
        """For each vector its label, the score of every label, and the examples nearest to it."""
        cosines = vectors @ self.vectors.T
        nearest = np.argsort(-cosines, axis=1)[:, :neighbours]
        return [self._vote(cosines[row], chosen) for row, chosen in enumerate(nearest)]

    def _vote(self, cosines, chosen):
        votes = dict.fromkeys(sorted(set(self.labels)), 0.0)
        for example in chosen:
            votes[self.labels[example]] += max(float(cosines[example]), 0.0)
        total = sum(votes.values()) or 1.0
        scores = {label: round(vote / total, 4) for label, vote in votes.items()}
        label = max(scores, key=scores.__getitem__)
        return {"label": label, "scores": scores, "nearest": [self.names[i] for i in chosen[:3]]}


def read_examples(place, per_label):
    """The first files of each label's folder."""
    texts, labels, names = [], [], []
    for folder in sorted(path for path in find_folder(place).iterdir() if path.is_dir()):
        for file in sorted(folder.glob("*.txt"))[:per_label]:
            words = file.read_text(encoding="utf-8", errors="replace").split()
            texts.append(" ".join(words[:WORDS]))
            labels.append(folder.name)
            names.append(f"{folder.name}/{file.stem}")
    if not texts:
        raise FileNotFoundError(f"EXAMPLES: {place} has no folders of .txt files")
    whole = json.dumps([texts, labels])
    return Examples(texts, labels, names, hashlib.sha256(whole.encode()).hexdigest()[:24])


def find_folder(place):
    """A folder, or ``package://<module>/<path>``: data files by path, nothing is imported."""
    if not place.startswith("package://"):
        return Path(place)
    module, _, path = place.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"EXAMPLES: no package {module!r} is installed")
    return Path(next(iter(spec.submodule_search_locations))) / path


def shelf():
    """Where indexes are kept: in the home, where there is one."""
    root = Path(os.environ.get("STOKER_HOME") or tempfile.gettempdir())
    return root / "indexes"


def latest(examples):
    """The newest index of these examples, of whatever model; None when there is none."""
    found = sorted(shelf().glob(f"{examples.digest}-*.npy"), key=lambda path: path.stat().st_mtime)
    return _read(found[-1], examples) if found else None


def of_model(examples, model):
    """The index of these examples by that model; None when there is none."""
    # The name comes with a request: it must not lead out of the folder.
    if not isinstance(model, str) or not model.isalnum():
        return None
    path = shelf() / f"{examples.digest}-{model}.npy"
    return _read(path, examples) if path.exists() else None


def keep(examples, vectors, model):
    """Writes an index beside the others, whole or not at all."""
    shelf().mkdir(parents=True, exist_ok=True)
    path = shelf() / f"{examples.digest}-{model}.npy"
    with tempfile.NamedTemporaryFile(dir=shelf(), suffix=".tmp", delete=False) as draft:
        np.save(draft, vectors, allow_pickle=False)
        draft.flush()
        os.fsync(draft.fileno())
    Path(draft.name).replace(path)
    return _read(path, examples)


def _read(path, examples):
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        return None  # damaged: it is built anew
    if len(vectors) != len(examples.labels):
        return None
    model = path.stem.partition("-")[2]
    return Index(vectors, examples.labels, examples.names, model)
