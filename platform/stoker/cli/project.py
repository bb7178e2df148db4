"""``project.yaml`` of MLRun: which functions and graphs it names, in the order they are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stoker.cli.failure import Failure
from stoker.cli.pack import FUNCTION_FILES, PROJECT_FILES, Package, pack_function
from stoker.cli.yaml_file import YamlFile


def find_packages(path: Path) -> list[Package]:
    """What to deploy for ``stoker deploy PATH``.

    Args:
        path: a function file, a folder with one, a ``project.yaml``, or a folder with one.

    Raises:
        Failure: there is nothing to deploy, or something in it is wrong.
    """
    file = _deployable(path)
    if file.name in PROJECT_FILES or _is_project(file):
        return pack_project(file)
    return [pack_function(file)]


def pack_project(path: Path) -> list[Package]:
    """Every function of the project: those of ``function.yaml`` files, then the graphs.

    A graph asks for its functions' URLs when it starts, so these must be there before it.

    Raises:
        Failure: an entry cannot be deployed here, with file, line and column.
    """
    file = YamlFile.read(path)
    name = str(_mapping(file, "metadata").get("name") or "")
    if not name:
        raise Failure(f"{file.where('metadata')}: metadata.name: must be the project's name")
    entries = _mapping(file, "spec").get("functions") or []
    if not isinstance(entries, list) or not entries:
        raise Failure(f"{file.where('spec.functions')}: spec.functions: must list functions")
    functions: list[Package] = []
    graphs: list[Package] = []
    for index, entry in enumerate(entries):
        package, is_graph = _entry(file, f"spec.functions.{index}", entry, name)
        (graphs if is_graph else functions).append(package)
    return functions + graphs


def _mapping(file: YamlFile, field: str) -> dict[str, Any]:
    found = file.document.get(field) or {}
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise Failure(f"{file.where(field)}: {field}: must be a mapping, was {kind}")
    return found


def _entry(file: YamlFile, field: str, entry: Any, project: str) -> tuple[Package, bool]:
    url = str(entry.get("url") or "") if isinstance(entry, dict) else ""
    base = file.path.parent / str(_mapping(file, "spec").get("context") or ".")
    source = (base / url).resolve()
    if url.endswith((".yaml", ".yml")):
        _must_exist(file, field, source)
        return pack_function(source, name=str(entry.get("name") or ""), project=project), False
    if url.endswith(".py"):
        _must_exist(file, field, source)
        return _graph(source, project), True
    must = "must be a function.yaml or a graph's .py file"
    raise Failure(f"{file.where(field)}: {field}.url: {must}, was {url!r}")


def _graph(source: Path, project: str) -> Package:
    try:
        from stoker.api.mlrun_graph import compile_graph
    except ModuleNotFoundError as exc:
        raise Failure(
            f"{source} is a graph, which needs the mlrun extra: {exc}",
            hint="install it with: pip install 'stoker[mlrun]'",
        ) from exc
    return Package(compile_graph(source, project), source)


def _must_exist(file: YamlFile, field: str, source: Path) -> None:
    if not source.is_file():
        raise Failure(f"{file.where(field)}: {field}.url: there is no file {source}")


def _deployable(path: Path) -> Path:
    if path.is_file():
        return path
    for name in (*FUNCTION_FILES, *PROJECT_FILES):
        if (path / name).is_file():
            return path / name
    what = "holds neither function.yaml nor project.yaml" if path.is_dir() else "does not exist"
    raise Failure(f"{path} {what}")


def _is_project(file: Path) -> bool:
    return str(YamlFile.read(file).document.get("kind", "")).lower() == "project"
