"""The code of a function's folder: which files it is, and how a deploy carries it."""

from __future__ import annotations

import base64
from pathlib import Path

FUNCTION_FILES = ("function.yaml", "function.yml")
PROJECT_FILES = ("project.yaml", "project.yml")
QUALITY_FILES = ("quality.yaml", "quality.lock", "quality.html")
"""What the gate judges the function by, and its report; not part of what it judges."""
_NOT_CODE = (*FUNCTION_FILES, *PROJECT_FILES, *QUALITY_FILES)
_NOT_CODE_ENDINGS = (".pyc", ".md", ".rst")


def code_files(folder: Path) -> list[Path]:
    """The files of a function's folder that are its code or belong to it."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in _NOT_CODE
        and path.suffix not in _NOT_CODE_ENDINGS
        and not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts
        )
    )


def code_section(folder: Path, module: str) -> dict[str, str] | None:
    """``spec.build`` of a function whose code lies in a folder.

    Args:
        folder: its folder.
        module: of its handler.

    Returns:
        Empty where the handler's code is not in the folder, but may be installed; None where there
        is code, and not the handler's.
    """
    files = code_files(folder)
    top = folder / f"{module}.py"
    source = folder / (module.replace(".", "/") + ".py")
    if files == [top]:
        return {"functionSourceCode": base64.b64encode(top.read_bytes()).decode()}
    if top in files or source in files:
        return {"path": str(folder.resolve())}
    if not files or module.startswith("stoker."):
        # It is Stoker's own, whatever lies beside its file. Or the handler may come from an
        # installed package: the worker's import will tell.
        return {}
    return None
