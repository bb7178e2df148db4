"""``project.yaml`` of MLRun: which functions and graphs it names, in the order they are listed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from stoker.cli.failure import EXIT_USAGE, Failure
from stoker.cli.mlrun_function import SETUP_FILE, is_graph, set_up
from stoker.cli.pack import FUNCTION_FILES, PROJECT_FILES, pack_function
from stoker.cli.project_entry import AnyPackage, entry_source, pack_entry
from stoker.cli.yaml_file import YamlFile


def find_packages(path: Path, only: Sequence[str] = ()) -> list[AnyPackage]:
    """What to deploy for ``stoker deploy PATH``.

    Args:
        path: a function file, a folder with one, a ``project.yaml``, or a folder with one.
        only: names of those to deploy of a project; empty is all.

    Raises:
        Failure: there is nothing to deploy, or something in it is wrong.
    """
    file = _deployable(path)
    if file.name in PROJECT_FILES or _is_project(file):
        return pack_project(file, only)
    if only:
        raise Failure(f"--only chooses from a project.yaml, was given {path}", exit_code=EXIT_USAGE)
    return [pack_function(file)]


def pack_project(path: Path, only: Sequence[str] = ()) -> list[AnyPackage]:
    """The functions of the project: those of ``function.yaml`` files, then the graphs.

    A graph asks for its functions' URLs when it starts, so these must be there before it. Of a file
    that lists none, or that mlrun has written, what ``project_setup.py`` beside it makes, as in a
    notebook.

    Args:
        path: the project's file.
        only: names of those to take, with or without the project's before them; empty is all.

    Raises:
        Failure: an entry cannot be deployed here, with file, line and column, or no entry has a
            name of ``only``.
    """
    file = YamlFile.read(path)
    name = str(_mapping(file, "metadata").get("name") or "")
    if not name:
        raise Failure(f"{file.where('metadata')}: metadata.name: must be the project's name")
    entries = _mapping(file, "spec").get("functions") or []
    if _made_elsewhere(entries) and (path.parent / SETUP_FILE).is_file():
        return _of_setup(path, name, only)
    if not isinstance(entries, list) or not entries:
        raise Failure(f"{file.where('spec.functions')}: spec.functions: must list functions")
    chosen = _chosen(file, entries, name, only) if only else range(len(entries))
    functions: list[AnyPackage] = []
    graphs: list[AnyPackage] = []
    for index, entry in enumerate(entries):
        if index not in chosen:
            continue
        package = pack_entry(file, f"spec.functions.{index}", entry, name)
        if package is not None:
            (graphs if is_graph(package) else functions).append(package)
    if not functions and not graphs:
        raise Failure(f"{path} lists nothing that is deployed: jobs are run where they are called")
    return functions + graphs


def listing_project(function: Path) -> tuple[Path, str, str] | None:
    """The nearest project file above a function's that lists it, its name, the function's there.

    None when there is none. A project that cannot be read lists nothing: it is not asked for.
    """
    for folder in function.resolve().parents:
        for path in (folder / name for name in PROJECT_FILES):
            if path.is_file():
                try:
                    return _listed(YamlFile.read(path), function.resolve())
                except Failure:
                    return None
    return None


def _listed(file: YamlFile, function: Path) -> tuple[Path, str, str] | None:
    entries = _mapping(file, "spec").get("functions") or []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and _source(file, entry) == function:
            return file.path, str(_mapping(file, "metadata").get("name")), _own_name(file, entry)
    return None


def _chosen(
    file: YamlFile, entries: list[Any], project: str, only: Sequence[str]
) -> Collection[int]:
    """Which entries are named; before packing, because a graph takes seconds to compile."""
    own = [_own_name(file, entry) for entry in entries]
    wanted = _wanted(own, project, only)
    return {index for index, name in enumerate(own) if name in wanted}


def _wanted(own: Sequence[str], project: str, only: Sequence[str]) -> set[str]:
    """The names in ``only``, without their project's."""
    for name in only:
        if not {name, name.removeprefix(f"{project}-")} & set(own):
            near = difflib.get_close_matches(name.removeprefix(f"{project}-"), own)
            meant = f"did you mean {', '.join(near)}?" if near else f"there is {', '.join(own)}"
            raise Failure(f"project {project} has no function {name!r}", hint=meant)
    return {*only, *(name.removeprefix(f"{project}-") for name in only)}


def _made_elsewhere(entries: Any) -> bool:
    """Whether the file lists none, or whole functions: so mlrun writes what it has loaded."""
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and "spec" in entry for entry in entries
    )


def _of_setup(path: Path, project: str, only: Sequence[str]) -> list[AnyPackage]:
    made: dict[str, AnyPackage] = {
        package.name.removeprefix(f"{project}-"): package for package in set_up(path, project)
    }
    if not made:
        raise Failure(f"{path.parent / SETUP_FILE} puts no function into the project")
    wanted = _wanted([*made], project, only) if only else set(made)
    return [package for name, package in made.items() if name in wanted]


def _own_name(file: YamlFile, entry: Any) -> str:
    """An entry's name without its project's; that of its file, if the entry itself has none."""
    source = _source(file, entry)
    named = entry.get("name") if isinstance(entry, dict) else None
    if not named and source.suffix in (".yaml", ".yml") and source.is_file():
        metadata = YamlFile.read(source).document.get("metadata")
        named = metadata.get("name") if isinstance(metadata, dict) else None
    project = str(_mapping(file, "metadata").get("name"))
    return str(named or source.stem.replace("_", "-")).removeprefix(f"{project}-")


def _source(file: YamlFile, entry: Any) -> Path:
    return entry_source(file, str(entry.get("url") or "") if isinstance(entry, dict) else "")


def _mapping(file: YamlFile, field: str) -> dict[str, Any]:
    found = file.document.get(field) or {}
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise Failure(f"{file.where(field)}: {field}: must be a mapping, was {kind}")
    return found


def _deployable(path: Path) -> Path:
    if path.is_file() and path.suffix == ".py":
        raise _python_file(path)
    if path.is_file():
        return path
    for name in (*FUNCTION_FILES, *PROJECT_FILES):
        if (path / name).is_file():
            return path / name
    what = "holds neither function.yaml nor project.yaml" if path.is_dir() else "does not exist"
    raise Failure(f"{path} {what}")


def _python_file(path: Path) -> Failure:
    """The refusal of a file of code, with the command that would deploy it where there is one."""
    if any((path.parent / name).is_file() for name in FUNCTION_FILES):
        return Failure(
            f"{path} is not a function.yaml; give its folder", hint=f"stoker deploy {path.parent}"
        )
    if listed := listing_project(path):
        project, _, name = listed
        return Failure(
            f"{path} is deployed as part of its project",
            hint=f"stoker deploy {os.path.relpath(project)} --only {name}",
        )
    return Failure(
        f"{path} is not a function.yaml, there is none beside it, and no project.yaml above it "
        "lists it"
    )


def _is_project(file: Path) -> bool:
    return str(YamlFile.read(file).document.get("kind", "")).lower() == "project"
