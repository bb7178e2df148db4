"""MLRun's ``spec.config``: parts of a Nuclio config under dotted keys, put into the whole."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from stoker.sdk.dotted import get, put, split


def apply(document: dict[str, Any], config: Mapping[str, Any]) -> None:
    """Puts each value where its key says; to a list that is there, a list is added.

    Values that are null are left out: MLRun writes every field of a trigger, declared or not.
    """
    for key, value in config.items():
        path = split(key)
        declared = without_nulls(copy.deepcopy(value))
        present = get(document, path)
        if isinstance(present, list):
            declared = present + (declared if isinstance(declared, list) else [declared])
        put(document, path, declared)


def without_nulls(value: Any) -> Any:
    """The value without the null fields of its mappings.

    >>> without_nulls({"a": None, "b": {"c": None, "d": [None, 1]}})
    {'b': {'d': [None, 1]}}
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) if isinstance(item, dict) else item for item in value]
    return value
