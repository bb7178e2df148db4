"""Vectors to labels by their nearest labelled examples: the CPU step after the model.

The examples' vectors, the index, are kept on disk by content: waking only reads them.
"""

import hashlib
import importlib.util
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nuclio_sdk import Event

READY_WITHIN_S = 60.0
REBUILD_AFTER_S = 30.0
BATCH = 16
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


def init_context(context):
    context.user_data.neighbours = int(os.environ.get("NEIGHBOURS", "9"))
    per_label = int(os.environ.get("EXAMPLES_PER_LABEL", "30"))
    context.user_data.examples = read_examples(os.environ["EXAMPLES"], per_label)
    context.user_data.index = latest(context.user_data.examples)
    context.user_data.asked_at = float("-inf")
    if context.user_data.index is None:
        # Built while this is being deployed, so that no request ever waits for it.
        context.user_data.index = build(context)


def handler(context, event):
    body = event.body
    if not isinstance(body, dict) or not {"texts", "embeddings", "model"} <= body.keys():
        return refusal(context, "the body must be what text-embedder answers")
    if not isinstance(body["texts"], list):
        return refusal(context, "texts must be a list")
    index = index_for(context, body["model"])
    if index is None:
        return refusal(context, "these embeddings are of another model than text-embedder's")
    try:
        vectors = np.array(body["embeddings"], dtype=np.float32)
    except ValueError as exc:
        return refusal(context, f"embeddings must be rows of numbers of one length: {exc}")
    if vectors.shape != (len(body["texts"]), index.vectors.shape[1]):
        return refusal(context, f"embeddings must be [texts, dimension], was {vectors.shape}")
    found = index.classify(vectors, context.user_data.neighbours)
    predictions = [{"text": text} | one for text, one in zip(body["texts"], found, strict=True)]
    return {"predictions": predictions}


def index_for(context, model):
    """The index of that model, None for a model that the embedder does not have.

    Vectors of different models must not be compared. A redeployed embedder has another model, so an
    unknown one is asked for, but not at every request: anybody can send any name.
    """
    data = context.user_data
    if data.index.model == model:
        return data.index
    known = of_model(data.examples, model)
    if known is None and time.monotonic() - data.asked_at > REBUILD_AFTER_S:
        data.asked_at = time.monotonic()
        known = build(context)
    if known is None or known.model != model:
        return None
    data.index = known
    return known


def build(context):
    """Embeds the examples through the embedder function and keeps the result."""
    examples = context.user_data.examples
    started = time.monotonic()
    rows, model = [], ""
    for start in range(0, len(examples.texts), BATCH):
        answer = embed(context, examples.texts[start : start + BATCH])
        rows.extend(answer["embeddings"])
        model = answer["model"]
    index = keep(examples, np.array(rows, dtype=np.float32), model)
    seconds = round(time.monotonic() - started, 2)
    context.logger.info_with("Index built", examples=len(rows), seconds=seconds, model=model)
    return index


def embed(context, texts):
    """Calls the embedder; while that is still being deployed, asks again."""
    name = os.environ["EMBEDDER"]
    event = Event(body=json.dumps({"texts": texts}), content_type="application/json", method="POST")
    give_up = time.monotonic() + READY_WITHIN_S
    while True:
        response = context.platform.call_function(name, event)
        if response.status_code == 200:
            body = response.body
            return body if isinstance(body, dict) else json.loads(body)
        if response.status_code not in (404, 429, 503) or time.monotonic() > give_up:
            raise RuntimeError(f"{name} answered {response.status_code}: {response.body!r:.300}")
        time.sleep(0.5)


def refusal(context, error):
    return context.Response(body={"error": error}, content_type="application/json", status_code=400)


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
