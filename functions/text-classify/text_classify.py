"""Vectors to labels by their nearest labelled examples: the CPU step after the model."""

import json
import os
import time

import example_index
import numpy as np
from nuclio_sdk import Event

READY_WITHIN_S = 60.0
REBUILD_AFTER_S = 30.0
BATCH = 16


def init_context(context):
    context.user_data.neighbours = int(os.environ.get("NEIGHBOURS", "9"))
    per_label = int(os.environ.get("EXAMPLES_PER_LABEL", "30"))
    context.user_data.examples = example_index.read_examples(os.environ["EXAMPLES"], per_label)
    context.user_data.index = example_index.latest(context.user_data.examples)
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
    known = example_index.of_model(data.examples, model)
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
    index = example_index.keep(examples, np.array(rows, dtype=np.float32), model)
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
