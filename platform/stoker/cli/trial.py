"""A function deployed for the length of a comparison, and removed afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stoker.cli.client import LONG_S, Client
from stoker.cli.failure import Failure
from stoker.cli.pack import FUNCTION_FILES, Package, pack_function
from stoker.nouns.function import PROJECT_LABEL
from stoker.nouns.recording import RECORD_VARIABLE

_LONGEST_NAME = 40
"""Of the function's own name in the trial's: with the rest it stays a valid name."""


@contextmanager
def trial(client: Client, path: Path, name: str) -> Iterator[str]:
    """The name of a function made from ``path``, ready; it is deleted at the end.

    It has the project of ``name``, no triggers but http, and is not recorded.

    Args:
        client: of the control port.
        path: a ``function.yaml``, or the folder of one.
        name: the function that it is compared with.

    Raises:
        Failure: it cannot be packed or deployed, or does not become ready.
    """
    package = _package(path, name, _labels(client, name))
    try:
        revision = package.send(client)
        _settle(client, package.name, revision)
        yield package.name
    finally:
        with contextlib.suppress(Failure):  # whatever went wrong before says more
            client.send("DELETE", f"/api/functions/{quote(package.name)}")


def _package(path: Path, name: str, labels: dict[str, str]) -> Package:
    own = f"{name[:_LONGEST_NAME].strip('-')}-trial-{os.urandom(3).hex()}"
    package = pack_function(_file(path), name=own)
    document = package.document
    metadata = {**document["metadata"], "labels": labels}
    spec: dict[str, Any] = dict(document.get("spec") or {})
    spec["env"] = [v for v in spec.get("env") or [] if v.get("name") != RECORD_VARIABLE]
    triggers = spec.get("triggers") or {}
    # One that read a queue, or ran by the clock, would take work from the function that serves.
    spec["triggers"] = {n: t for n, t in triggers.items() if (t or {}).get("kind") == "http"}
    return Package({**document, "metadata": metadata, "spec": spec}, package.source)


def _file(path: Path) -> Path:
    if path.is_dir():
        for file in FUNCTION_FILES:
            if (path / file).is_file():
                return path / file
        raise Failure(f"{path} has no {FUNCTION_FILES[0]}")
    if not path.is_file():
        raise Failure(f"there is no {path}")
    return path


def _labels(client: Client, name: str) -> dict[str, str]:
    """The project of the function that it is compared with; its default where that is not here."""
    functions = client.send(
        "GET", "/api/functions", headers={"x-nuclio-function-name": name}
    ).json()
    labels = functions.get(name, {}).get("metadata", {}).get("labels") or {}
    return {PROJECT_LABEL: labels.get(PROJECT_LABEL, "default")}


def _settle(client: Client, name: str, revision: str) -> None:
    import json

    route = f"/api/stoker/functions/{quote(name)}/deployment?revision={revision}"
    for line in client.lines(route):
        function = json.loads(line)
        status = function.get("status") or {}
        if not function.get("settled") and not function.get("deleted"):
            continue
        if status.get("state") in ("ready", "scaledToZero"):
            return
        reason = status.get("message") or status.get("state") or "it was deleted"
        raise Failure(f"the trial {name} did not become ready: {reason}")
    raise Failure(f"the platform stopped answering within {LONG_S:g} s of the trial's deploy")
