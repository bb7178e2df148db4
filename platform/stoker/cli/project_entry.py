"""One entry of a project's ``functions``: a ``function.yaml``, a Python file, or mlrun's object."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from stoker.cli.failure import Failure
from stoker.cli.mlrun_function import MlrunPackage, created, imported, of_object, written
from stoker.cli.pack import Package, pack_function
from stoker.cli.yaml_file import YamlFile

AnyPackage = Package | MlrunPackage
"""A function by its ``function.yaml``, or by mlrun's own object."""
_MLRUN_KINDS = ("remote", "nuclio", "serving", "application")
_RUN_KINDS = ("job", "local", "handler", "dask", "mpijob", "spark", "remote-spark", "databricks")
"""What is run where it is called, and not deployed."""


def pack_entry(file: YamlFile, field: str, entry: Any, project: str) -> AnyPackage | None:
    """The function of an entry; None for one that is run and not deployed.

    Args:
        file: the project's.
        field: where the entry stands in it, for messages.
        entry: the entry.
        project: the project's name.

    Raises:
        Failure: it cannot be deployed here, with file, line and column.
    """
    if not isinstance(entry, dict):
        must = "must be a function.yaml or a Python file, by url"
        raise Failure(f"{file.where(field)}: {field}: {must}, was {entry!r}")
    name = str(entry.get("name") or "")
    if isinstance(entry.get("spec"), dict):  # as mlrun writes a project that was loaded
        declared = entry["spec"]
        if declared.get("kind") in _RUN_KINDS:
            return None
        return of_object(declared, name, project, file.path)
    url = str(entry.get("url") or "")
    source = entry_source(file, url)
    if not url.endswith((".yaml", ".yml", ".py")):
        must = "must be a function.yaml or a Python file"
        raise Failure(f"{file.where(field)}: {field}.url: {must}, was {url!r}")
    if not source.is_file():
        raise Failure(f"{file.where(field)}: {field}.url: there is no file {source}")
    if url.endswith(".py"):
        return _of_python(source, entry, project)
    kind = YamlFile.read(source).document.get("kind")
    if kind in _RUN_KINDS:
        return None
    if kind in _MLRUN_KINDS:
        return imported(source, name, project)
    return pack_function(source, name=name, project=project)


def entry_source(file: YamlFile, url: str) -> Path:
    """The file that an entry's ``url`` names, by the project's context."""
    spec = file.document.get("spec")
    context = spec.get("context") if isinstance(spec, dict) else None
    return (file.path.parent / str(context or ".") / url).resolve()


def _of_python(source: Path, entry: dict[str, Any], project: str) -> AnyPackage | None:
    """A file that makes a function by ``create(project)``, else mlrun's own reading of it."""
    kind = str(entry.get("kind") or "")
    if kind in _RUN_KINDS:
        return None
    if not kind or _defines_create(source):
        return created(source, project)
    return written(source, entry, project)


def _defines_create(source: Path) -> bool:
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):
        return True  # Running it says what is wrong.
    return any(isinstance(node, ast.FunctionDef) and node.name == "create" for node in tree.body)
