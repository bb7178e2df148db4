"""Which zygote a function's workers are forked from.

Whether a fork will do at all is the zygote's own judgement: it knows what it has imported.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from stoker.nouns.launch import WorkerLaunch, ZygoteKind

log = logging.getLogger(__name__)

_TORCH = frozenset({"torch", "transformers", "onnxruntime", "stoker.models"})
_MODEL_LOADER = "load_model"
LARGEST_SCANNED_BYTES = 1024 * 1024

_IMPORT = re.compile(
    r"(?:^|[;:])[ \t]*"
    r"(from[ \t]+[\w.]+[ \t]+import[ \t]*\([^)]*\)|(?:from|import)[ \t](?:[^\n\\]|\\\r?\n)*)",
    re.MULTILINE,
)
"""What may be an import statement, alone or after another statement."""


def choose_kind(launch: WorkerLaunch) -> ZygoteKind:
    """The kind of zygote whose imports this function would do itself.

    Order: ``STOKER_ZYGOTE``; an mlrun serving spec, handler or import; a model; else plain. A wrong
    guess costs an import after the fork, never correctness.
    """
    named = launch.env.get("STOKER_ZYGOTE", "")
    if named in set(ZygoteKind):
        return ZygoteKind(named)
    imported = imports_of(Path(launch.code_dir)) if launch.code_dir else frozenset()
    serving = "SERVING_SPEC_ENV" in launch.env or launch.handler.startswith("mlrun.")
    if serving or _any_under(imported, frozenset({"mlrun"})):
        return ZygoteKind.MLRUN
    loads = any(name == f"stoker.sdk.{_MODEL_LOADER}" for name in imported)
    if launch.env.get("STOKER_MODEL") or loads or _any_under(imported, _TORCH):
        return ZygoteKind.TORCH
    return ZygoteKind.PLAIN


def _any_under(imported: Iterable[str], roots: frozenset[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for name in imported for root in roots)


def imports_of(folder: Path) -> frozenset[str]:
    """Dotted names that the folder's top-level modules import, ``from`` names included.

    What is no Python is skipped here: the worker's own import says what is wrong with it. A line of
    a text that reads like an import counts as one.
    """
    names: set[str] = set()
    for path in sorted(folder.glob("*.py")):
        try:
            if path.stat().st_size > LARGEST_SCANNED_BYTES:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as exc:
            log.info("%s is not scanned for imports: %s", path, exc)
            continue
        names.update(_imports(text))
    return frozenset(names)


def _imports(text: str) -> set[str]:
    """Statement by statement: one parse of a large file would hold all threads for a second."""
    names: set[str] = set()
    for found in _IMPORT.finditer(text):
        try:
            tree = ast.parse(found[1])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            names.update(_imported(node))
    return names


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        if node.module == "stoker.sdk" or node.module.startswith("stoker.sdk."):
            names |= {f"stoker.sdk.{alias.name}" for alias in node.names}
        return names | {node.module}
    return set()
