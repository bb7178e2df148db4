"""Secrets in a function object: masked where it is listed, put back where it is stored again."""

from __future__ import annotations

from typing import Any

from stoker.api.mlrun.function_object import Document, refuse
from stoker.nouns.secrecy import MASK, masked, restored

_TRIGGERS = "spec.triggers"


def masked_function(function: Document) -> Document:
    """A copy whose secret values are masked: those of variables, triggers and secret sources."""
    shown = masked(function)
    spec = shown.get("spec")
    if isinstance(spec, dict):
        _mask_triggers(spec.get("config"))
        _mask_sources(spec.get("secret_sources"))
    return shown


def _mask_triggers(config: Any) -> None:
    for key in config if isinstance(config, dict) else ():
        if str(key).startswith(_TRIGGERS):
            triggers = masked({"spec": {"triggers": {key: config[key]}}})["spec"]["triggers"]
            config[key] = triggers[key]


def _mask_sources(sources: Any) -> None:
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict) and isinstance(source.get("source"), dict):
            source["source"] = dict.fromkeys(source["source"], MASK)


def restored_function(function: Document, *stored: Document) -> Document:
    """A copy with the masked variables as they were stored, the newest first.

    Raises:
        InvalidFunction: a value is the mask, and it is not known what it stands for.
    """
    whole = restored(function, *stored)
    for field in ("config", "secret_sources"):
        if _holds_mask(whole.get("spec", {}).get(field)):
            refuse(
                f"spec.{field}",
                f"must hold the values, held the mask {MASK} of a listing: get_function() has them",
            )
    return whole


def _holds_mask(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_mask(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_mask(item) for item in value)
    return bool(value == MASK)
