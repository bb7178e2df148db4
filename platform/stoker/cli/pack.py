"""From files to what the control port takes: one function's folder becomes one document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.cli.client import Client
from stoker.cli.failure import Failure
from stoker.cli.yaml_file import YamlFile
from stoker.sdk.code_files import FUNCTION_FILES, PROJECT_FILES, code_files, code_section

__all__ = ["FUNCTION_FILES", "PROJECT_FILES", "Package", "code_files", "pack_function"]


@dataclass(frozen=True, slots=True)
class Package:
    """One function, ready to be sent. ``source`` is the file to name in messages."""

    document: dict[str, Any]
    source: Path

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.document["metadata"]["name"])

    @property
    def project(self) -> str:
        """Its project, by Nuclio's label."""
        from stoker.nouns.function import PROJECT_LABEL

        labels = self.document["metadata"].get("labels") or {}
        return str(labels.get(PROJECT_LABEL, "default"))

    def annotations(self) -> dict[str, str]:
        """The function's annotations, to be changed in place."""
        metadata = self.document["metadata"]
        if metadata.get("annotations") is None:
            metadata["annotations"] = {}
        found: dict[str, str] = metadata["annotations"]
        return found

    def send(self, client: Client) -> str:
        """Deploys it; the number of its new revision.

        Raises:
            Failure: the platform cannot be reached, or refuses.
        """
        answer = client.send("PUT", f"/api/functions/{self.name}", self.document)
        return answer.headers.get("X-Stoker-Revision", "0")


def pack_function(path: Path, *, name: str = "", project: str = "") -> Package:
    """Reads a ``function.yaml`` and packs the code that lies beside it.

    Args:
        path: the YAML file.
        name: replaces ``metadata.name``.
        project: the project whose label it gets, and whose name comes before its own.

    Raises:
        Failure: the file or the code is not there, or a field is wrong (file, line and column).
    """
    file = YamlFile.read(path)
    document = _named(file.document, name, project)
    handler = _check(file, document)
    spec = document.setdefault("spec", {})
    build = dict(spec.get("build") or {})
    if build.get("path"):
        build["path"] = _absolute(path, str(build["path"]))
    elif not build.get("functionSourceCode"):
        build |= _code(path.parent, handler.partition(":")[0])
    document["spec"] = spec | {"build": build}
    return Package(document, path)


def _named(document: dict[str, Any], name: str, project: str) -> dict[str, Any]:
    from stoker.nouns.function import PROJECT_LABEL

    metadata = document.get("metadata") or {}
    labels = metadata.get("labels") or {} if isinstance(metadata, dict) else None
    if not isinstance(labels, dict):
        return document  # The check that follows says what is wrong, and where.
    metadata = dict(metadata)
    if name:
        metadata["name"] = name
    if project:
        own = str(metadata.get("name", ""))
        metadata["name"] = own if own.startswith(f"{project}-") else f"{project}-{own}"
        metadata["labels"] = labels | {PROJECT_LABEL: project}
    return document | {"metadata": metadata}


def _check(file: YamlFile, document: dict[str, Any]) -> str:
    """The handler, once every field is right."""
    from stoker.nouns.errors import InvalidFunction
    from stoker.nouns.function import FunctionConfig

    try:
        return FunctionConfig.parse(document).spec.handler
    except InvalidFunction as error:
        fields = error.detail["fields"] or [{"field": "", "message": error.message}]
        lines = [f"{file.where(f['field'])}: {f['field']}: {f['message']}" for f in fields]
        raise Failure("\n".join(lines)) from error


def _absolute(path: Path, build_path: str) -> str:
    if "://" in build_path:
        return build_path
    folder = (path.parent / build_path).resolve()
    if not folder.exists():
        raise Failure(f"{path}: spec.build.path: there is no {folder}")
    return str(folder)


def _code(folder: Path, module: str) -> dict[str, str]:
    section = code_section(folder, module)
    if section is not None:
        return section
    names = ", ".join(str(file.relative_to(folder)) for file in code_files(folder)[:5])
    raise Failure(
        f"the handler's module {module!r} is not in {folder}: there is {names}",
        hint="spec.handler must be <module>:<function>, the module being a file of the folder",
    )
