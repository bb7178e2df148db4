"""What makes two artifacts the same version: MLRun's uid of an artifact."""

from __future__ import annotations

import hashlib
from typing import Any

from stoker.store.catalog import json_text
from stoker.store.catalog.document import Document, part

_METADATA_LEFT_OUT = frozenset({"labels", "updated", "created", "tag", "uid"})
_SPEC_LEFT_OUT = frozenset({"db_key", "extra_data"})
_MORE_LEFT_OUT = {
    "table": frozenset({"schema", "header"}),
    "dataset": frozenset(
        {
            *("schema", "header", "length", "column_metadata", "features"),
            *("partition_keys", "timestamp_key", "label_column"),
        }
    ),
    "model": frozenset(
        {
            *("metrics", "parameters", "inputs", "outputs"),
            *("feature_vector", "feature_weights", "feature_stats"),
        }
    ),
}
"""What MLRun lets change without making another version of it (``_exclude_fields_from_uid_hash``
in ``mlrun.artifacts``)."""


def artifact_uid(document: Document, iteration: int, tree: str) -> str:
    """40 hex digits over what the artifact is: key, producer, iteration, kind, and its spec.

    Labels, tags, times, the status, and what MLRun computes after the fact are left out, so that
    storing an artifact again after ``update_model`` changes the version that is there.
    """
    kind = str(document.get("kind") or "artifact")
    metadata = _without(part(document, "metadata"), _METADATA_LEFT_OUT)
    spec = _without(part(document, "spec"), _SPEC_LEFT_OUT | _MORE_LEFT_OUT.get(kind, frozenset()))
    identity = {
        "kind": kind,
        "metadata": metadata | {"iter": iteration, "tree": tree},
        "spec": spec,
    }
    canonical = json_text.written(identity, ordered=True)
    # A name for content, as git has them; nothing relies on its being hard to forge.
    return hashlib.sha1(canonical, usedforsecurity=False).hexdigest()


def _without(fields: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    # What is sent as null says as little as what is not sent.
    return {key: value for key, value in fields.items() if key not in names and value is not None}
