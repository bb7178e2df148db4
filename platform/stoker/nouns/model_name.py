"""The name of a model that a function declares, and who may answer by it."""

from __future__ import annotations

from stoker.nouns.function import FunctionConfig

TRIAL_LABEL = "stoker.io/trial-of"
"""On a function that only exists to be measured: the name of the one that it is a recipe of."""


def is_trial(config: FunctionConfig) -> bool:
    """Whether it only exists to be measured."""
    return TRIAL_LABEL in config.metadata.labels


def model_name(config: FunctionConfig) -> str:
    """By which ``/v1`` and ``/v2`` find the function besides its own name; empty: none.

    A trial declares what the function declares of which it is a recipe, and takes none of its
    requests.
    """
    return "" if is_trial(config) else config.env.get("STOKER_MODEL_NAME", "")
