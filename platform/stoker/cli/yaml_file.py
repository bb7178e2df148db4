"""Reads one YAML document and remembers where each field stands, so that errors can say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stoker.cli.failure import Failure

_TAG = "tag:yaml.org,2002:"
_NOT_JSON = frozenset(_TAG + kind for kind in ("timestamp", "binary", "set", "omap", "pairs"))


class _Loader(yaml.SafeLoader):
    """Reads what JSON can say: a date without quotes is text, as Nuclio's own reader has it."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TAG + "timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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
                a key twice, what JSON cannot say, or no mapping.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise Failure(f"{path} cannot be read: {exc}") from exc
        try:
            node = _one_document(path, text)
            _Check(path).check(node)
            document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as exc:
            raise _malformed(path, exc) from exc
        except RecursionError as exc:
            raise Failure(f"{path}: the file is nested too deeply") from exc
        except (ValueError, KeyError) as exc:  # a tag such as !!int on what is none
            raise Failure(f"{path}: a value cannot be read: {exc}") from exc
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
        return _place(self.path, node)


def _one_document(path: Path, text: str) -> yaml.nodes.Node:
    nodes = [n for n in yaml.compose_all(text, Loader=_Loader) if n is not None]
    if not nodes:
        raise Failure(f"{path}:1:1: the file is empty")
    if len(nodes) > 1:
        raise Failure(
            f"{_place(path, nodes[1])}: a second YAML document begins here; "
            "must be one document a file"
        )
    node: yaml.nodes.Node = nodes[0]
    return node


class _Check:
    """Refuses what YAML takes and no function can be: each node once, however often it is named."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done: set[int] = set()
        self._around: set[int] = set()

    def check(self, node: yaml.nodes.Node) -> None:
        """Looks at the node and all below it.

        Raises:
            Failure: with the place.
        """
        if id(node) in self._around:
            raise Failure(f"{_place(self._path, node)}: the value contains itself")
        if id(node) in self._done:
            return
        if node.tag in _NOT_JSON:
            kind = node.tag.removeprefix(_TAG)
            raise Failure(f"{_place(self._path, node)}: !!{kind} has no place in JSON; quote it")
        self._done.add(id(node))
        self._around.add(id(node))
        for below in self._below(node):
            self.check(below)
        self._around.discard(id(node))

    def _below(self, node: yaml.nodes.Node) -> list[yaml.nodes.Node]:
        if isinstance(node, yaml.nodes.SequenceNode):
            return list(node.value)
        if not isinstance(node, yaml.nodes.MappingNode):
            return []
        seen: set[str] = set()
        for key, _ in node.value:
            self._check_key(key, seen)
        return [value for _, value in node.value]

    def _check_key(self, key: yaml.nodes.Node, seen: set[str]) -> None:
        """YAML lets the last of two equal keys win, in silence."""
        if not isinstance(key, yaml.nodes.ScalarNode) or key.tag in _NOT_JSON:
            raise Failure(f"{_place(self._path, key)}: a key must be plain text")
        if key.value in seen and key.tag != _TAG + "merge":
            raise Failure(f"{_place(self._path, key)}: the key {key.value!r} is there twice")
        seen.add(str(key.value))


def _place(path: Path, node: yaml.nodes.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


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
