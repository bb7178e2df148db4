"""Reads one YAML document and remembers where each field stands, so that errors can say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stoker.cli.failure import Failure


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A parsed file."""

    path: Path
    document: dict[str, Any]
    node: yaml.nodes.Node

    @classmethod
    def read(cls, path: Path) -> YamlFile:
        """Reads the file.

        Raises:
            Failure: naming file, line and column: unreadable, malformed, more than one document,
                a key twice, or no mapping.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise Failure(f"{path} cannot be read: {exc}") from exc
        node = _one_document(path, text)
        _check_keys(path, node)
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as exc:
            raise _malformed(path, exc) from exc
        if not isinstance(document, dict):
            raise Failure(f"{path}:1:1: must be a mapping, was {type(document).__name__}")
        return cls(path, document, node)

    def where(self, field: str) -> str:
        """``file:line:column`` of a field such as ``spec.triggers.http.numWorkers``.

        Of the nearest thing around it, when the field itself is not there.
        """
        node = self.node
        for part in field.split("."):
            child = _child(node, part)
            if child is None:
                break
            node = child
        return f"{self.path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _one_document(path: Path, text: str) -> yaml.nodes.Node:
    try:
        nodes = [n for n in yaml.compose_all(text, Loader=yaml.SafeLoader) if n is not None]
    except yaml.YAMLError as exc:
        raise _malformed(path, exc) from exc
    if not nodes:
        raise Failure(f"{path}:1:1: the file is empty")
    if len(nodes) > 1:
        mark = nodes[1].start_mark
        raise Failure(
            f"{path}:{mark.line + 1}:{mark.column + 1}: a second YAML document begins here; "
            "must be one document a file"
        )
    node: yaml.nodes.Node = nodes[0]
    return node


def _check_keys(path: Path, node: yaml.nodes.Node) -> None:
    """YAML lets the last of two equal keys win, in silence."""
    if isinstance(node, yaml.nodes.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                mark = key.start_mark
                place = f"{path}:{mark.line + 1}:{mark.column + 1}"
                raise Failure(f"{place}: the key {key.value!r} is there twice")
            seen.add(str(key.value))
            _check_keys(path, value)
    elif isinstance(node, yaml.nodes.SequenceNode):
        for item in node.value:
            _check_keys(path, item)


def _child(node: yaml.nodes.Node, part: str) -> yaml.nodes.Node | None:
    if isinstance(node, yaml.nodes.SequenceNode) and part.isdigit():
        return node.value[int(part)] if int(part) < len(node.value) else None
    if isinstance(node, yaml.nodes.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value if isinstance(value, yaml.nodes.Node) else None
    return None


def _malformed(path: Path, error: yaml.YAMLError) -> Failure:
    mark = getattr(error, "problem_mark", None)
    place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    return Failure(f"{place}: {problem}" + (f" ({context})" if context else ""))
