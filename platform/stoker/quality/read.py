"""Reads ``quality.yaml``, and says of each mistake where it stands and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from stoker.nouns.errors import BadRequest, InvalidFunction
from stoker.nouns.settings import ModelSettings
from stoker.quality.declaration import COLUMNS, Declaration, Recipe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FILE = "quality.yaml"
Place = tuple[str | int, ...]


def read(folder: Path) -> Declaration:
    """The declaration in a function's folder.

    Raises:
        BadRequest: it is not there, or wrong: a line for each mistake, with file, line and field.
    """
    path = folder / FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise BadRequest(
            f"there is no {path}: it says what the function's recipes are judged by "
            "(docs/quality.md has an example)"
        ) from None
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{path} cannot be read: {exc}") from exc
    return parse(text, str(path))


def parse(text: str, path: str = FILE) -> Declaration:
    """The declaration in a text; ``path`` is named in messages.

    Raises:
        BadRequest: see `read`.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
        twice = _twice(node)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise BadRequest(f"{where}: {getattr(exc, 'problem', None) or exc}") from exc
    except RecursionError as exc:
        raise BadRequest(f"{path}: it is nested too deeply, or contains itself") from exc
    except ValueError as exc:  # a date that is none
        raise BadRequest(f"{path}: a value cannot be read: {exc}") from exc
    if not isinstance(document, dict):
        raise BadRequest(f"{path}:1: must be a mapping with reference, candidates and sets")
    if twice is not None:
        raise BadRequest(
            f"{path}:{twice.start_mark.line + 1}: the key {twice.value!r} is there twice"
        )
    try:
        declaration = Declaration.model_validate(document)
    except ValidationError as exc:
        lines = [_line(path, node, error) for error in _own(exc.errors())]
        raise BadRequest("\n".join(lines)) from exc
    mistakes = [*_columns(declaration), *_variables(declaration)]
    if mistakes:
        lines = [_said(path, node, place, message) for place, message in mistakes]
        raise BadRequest("\n".join(lines))
    return declaration


def _own(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Less those that only follow from another: a list is too short because its entry is wrong."""
    places = [tuple(error["loc"]) for error in errors]
    return [
        error
        for error, place in zip(errors, places, strict=True)
        if error["type"] != "too_short"
        or not any(other[: len(place)] == place != other for other in places)
    ]


def _line(path: str, node: Any, error: ErrorDetails) -> str:
    place = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        return _said(path, node, place, _unknown(place))
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    if error["type"] == "missing":
        return _said(path, node, place, "must be there, and is not")
    if "was " not in message and not isinstance(error["input"], dict | list):
        message += f", was {error['input']!r}"
    return _said(path, node, place, message)


def _unknown(place: Place) -> str:
    names = list(_section(place[:-1]).model_fields)
    near = difflib.get_close_matches(str(place[-1]), names, n=1)
    known = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(names)}"
    return f"no such field; {known}"


def _section(place: Place) -> type[BaseModel]:
    """The model at a place, found by the types of the fields on the way."""
    found: type[BaseModel] = Declaration
    for part in place:
        if isinstance(part, str) and part in found.model_fields:
            found = _model_in(found.model_fields[part].annotation) or found
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(one) for one in getattr(annotation, "__args__", ()))
    return next((one for one in inner if one is not None), None)


def _columns(declaration: Declaration) -> list[tuple[Place, str]]:
    found: list[tuple[Place, str]] = []
    for index, one in enumerate(declaration.sets):
        missing = [name for name in COLUMNS[one.kind] if name not in one.columns]
        if one.format == "lines" and COLUMNS[one.kind] == ("text",):
            continue
        if missing:
            needs = ", ".join(COLUMNS[one.kind])
            message = f"a {one.kind} set reads {needs}; missing {', '.join(missing)}"
            found.append((("sets", index, "columns"), message))
    return found


def _variables(declaration: Declaration) -> list[tuple[Place, str]]:
    """Variables that the model's settings would refuse, before anything is deployed."""
    recipes: Sequence[tuple[Place, Recipe]] = [
        (("reference",), declaration.reference),
        *((("candidates", i), one) for i, one in enumerate(declaration.candidates)),
    ]
    found: list[tuple[Place, str]] = []
    for place, recipe in recipes:
        try:
            ModelSettings.read(recipe.variables)
        except InvalidFunction as exc:
            found += [
                ((*place, "env", field["field"]), field["message"])
                for field in exc.detail["fields"]
            ]
    return found


def _said(path: str, node: Any, place: Place, message: str) -> str:
    field = ".".join(map(str, place))
    return f"{path}:{_line_of(node, place)}: {field + ': ' if field else ''}{message}"


def _line_of(node: Any, place: Place) -> int:
    """The line of a field, or of the nearest thing around it that is there."""
    line = int(node.start_mark.line) + 1
    for part in place:
        child = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    child, line = value, int(key.start_mark.line) + 1
        elif _is_in(part, node):
            child = node.value[part]
            line = int(child.start_mark.line) + 1
        if child is None:
            break
        node = child
    return line


def _is_in(part: str | int, node: Any) -> bool:
    return isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value)


def _twice(node: Any) -> Any:
    """The first key that is there twice, of which YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                return key
            seen.add(key.value)
            if (below := _twice(value)) is not None:
                return below
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            if (below := _twice(child)) is not None:
                return below
    return None
