"""The embedder without its model: the same imports, the same process, nothing loaded."""

from stoker.sdk import load_model


def handler(_context, _event):
    return {"would": load_model.__name__}
