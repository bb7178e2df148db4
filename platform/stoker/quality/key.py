"""The key of a run: everything that its verdict follows from, and nothing else."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stoker.models.device import BUILD_DEVICE, Target, target
from stoker.models.recipe import choose
from stoker.models.source import find
from stoker.nouns.errors import BadRequest, InvalidFunction, UnusableModel
from stoker.nouns.settings import ModelSettings
from stoker.quality import sets
from stoker.quality.declaration import TEXT_FILES

FORMAT = 1
"""Raised when the same measurements lead to another verdict than before."""
_JUDGES = ("scikit-learn", "scipy", "numpy")


def run_key(facts: Mapping[str, Any]) -> str:
    """The digest of facts: those of the declaration, the function, the recipes, the sets."""
    versions = {name: _version(name) for name in _JUDGES}
    text = json.dumps([FORMAT, versions, facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def recipe_facts(env: Mapping[str, str], folder: Path, devices: Sequence[str]) -> dict[str, Any]:
    """What a recipe's checkpoint follows from: its key, by content, and the libraries' versions.

    A recipe that cannot be carried out here has its variables and the reason instead: it may be
    carried out one day.
    """
    files = {name: _named(env[name], folder) for name in TEXT_FILES if env.get(name)}
    if not env.get("STOKER_MODEL"):
        return {"env": dict(env), "files": files, "devices": list(devices)}
    try:
        settings = ModelSettings.read(env)
        source = find(settings.model, pickled=settings.pickled_weights)
        digest = source.digest()
        made = choose(settings, _target(devices)).key(digest)
    except (UnusableModel, InvalidFunction) as exc:
        made, digest = exc.message, ""
    return {
        "env": dict(env), "files": files, "devices": list(devices),
        "made": made, "source": digest,
    }  # fmt: skip


def file_digest(path: Path) -> str:
    """Of a file's content; empty where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ""


def _named(source: str, folder: Path) -> str:
    try:
        return file_digest(sets.find(source, folder))
    except BadRequest as exc:
        return exc.message


def _target(devices: Sequence[str]) -> Target:
    """What the platform prepares for: its cards, or the CPU, which also computes for simulated."""
    cards = [one.split()[1] for one in devices if one.startswith(("cuda ", "mig "))]
    return target({BUILD_DEVICE: f"cuda:{cards[0]}" if cards else "cpu"})


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
