"""Evaluation sets: their rows read, drawn, and named by their content."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import random
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.nouns.errors import BadRequest
from stoker.quality.declaration import COLUMNS, EvaluationSet, TextSource

PACKAGE_SCHEME = "package://"
_TEXTS = frozenset({"text", "first", "second"})
_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".txt": "lines"}


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled item. ``rest`` has the further columns that the declaration names."""

    texts: tuple[str, ...]
    expected: str | float | None = None
    rest: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedSet:
    """A set as it is used. ``train`` are further items, for the head of a classification."""

    declared: EvaluationSet
    items: tuple[Item, ...]
    train: tuple[Item, ...]
    digest: str

    @property
    def texts(self) -> list[str]:
        """All texts to ask for, in the order of the items."""
        return [text for item in self.items for text in item.texts]

    @property
    def classes(self) -> int | None:
        """Different labels, or scores; None where it does not matter how many there are."""
        if self.declared.kind not in ("similarity", "classification", "labels"):
            return None
        return len({item.expected for item in self.items})


def load(declared: EvaluationSet, folder: Path) -> LoadedSet:
    """Reads a set and draws its items; the same declaration and file give the same.

    Raises:
        BadRequest: the source is not there or not readable, a column is missing, naming it, or no
            item is left to be judged by.
    """
    rows = _rows(declared, folder)
    chosen = [_item(declared, index, row) for index, row in enumerate(rows)]
    chosen = _each_once(chosen)
    if len(chosen) <= declared.train:
        such = " as where asks for" if declared.where else ""
        less = f", of which train takes {declared.train}" if declared.train else ""
        raise BadRequest(
            f"set {declared.name}: {declared.source} must have items to judge by: it has "
            f"{len(chosen)}{such}{less}"
        )
    if declared.limit or declared.train:
        random.Random(declared.seed).shuffle(chosen)  # noqa: S311 - a drawing, not a secret
    train = chosen[: declared.train]
    items = chosen[declared.train :][: declared.limit or None]
    return LoadedSet(declared, tuple(items), tuple(train), _digest(declared, [*train, *items]))


def texts_of(source: TextSource, folder: Path) -> Iterator[str]:
    """The texts of a calibration or training source.

    Raises:
        BadRequest: it is not there or not readable.
    """
    path = find(source.source, folder)
    for row in _read(path, source.format, header=source.header):
        if _kept(row, source.where):
            columns = [str(one) for one in source.columns] or list(row)
            yield from (row[one] for one in columns if one in row)


def text_digest(text: str) -> str:
    """Names a text whatever its case, spaces and punctuation: a trivial change hides no leak.

    >>> text_digest("A  man,  RIDING!") == text_digest("a man riding")
    True
    """
    plain = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
    return hashlib.sha256(plain.encode()).hexdigest()[:24]


def leaked(items: Iterable[Item], seen: frozenset[str]) -> int:
    """How many of the items have a text among those that a recipe was made with."""
    return sum(any(text_digest(text) in seen for text in item.texts) for item in items)


def find(source: str, folder: Path) -> Path:
    """The file of a source.

    Raises:
        BadRequest: it is not there.
    """
    if not source.startswith(PACKAGE_SCHEME):
        path = (folder / Path(source).expanduser()).resolve()
    else:
        module, _, rest = source.removeprefix(PACKAGE_SCHEME).partition("/")
        spec = importlib.util.find_spec(module) if module and "." not in module else None
        if spec is None or not spec.submodule_search_locations:
            raise BadRequest(f"source {source!r}: no package {module!r} is installed")
        path = Path(next(iter(spec.submodule_search_locations))) / rest
    if not path.is_file():
        raise BadRequest(f"source {source!r}: there is no file {path}")
    return path


def _rows(declared: EvaluationSet, folder: Path) -> Iterator[dict[str, str]]:
    path = find(declared.source, folder)
    for row in _read(path, declared.format, header=declared.header):
        if _kept(row, declared.where):
            yield row


def _kept(row: dict[str, str], where: dict[str, str]) -> bool:
    return all(row.get(name) == value for name, value in where.items())


def _read(path: Path, told: str | None, *, header: bool) -> Iterator[dict[str, str]]:
    kind = told or _FORMATS.get(path.suffix, "")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if kind == "lines":
                yield from ({"text": line.strip()} for line in file if line.strip())
            elif kind == "jsonl":
                yield from (_object(path, line) for line in file if line.strip())
            elif kind in ("csv", "tsv"):
                yield from _table(file, kind, header=header)
            else:
                raise BadRequest(f"{path}: say its format: csv, tsv, jsonl or lines")
    except (UnicodeDecodeError, csv.Error) as exc:
        raise BadRequest(f"{path} cannot be read as {kind}: {exc}") from exc


def _table(file: Any, kind: str, *, header: bool) -> Iterator[dict[str, str]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    if kind == "tsv":
        # The field's tab separated sets do not quote: a quotation mark is a part of the text.
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(file)
    names = next(rows, []) if header else None
    for row in rows:
        keys = names if names is not None else [str(index) for index in range(len(row))]
        yield dict(zip(keys, row, strict=False))


def _object(path: Path, line: str) -> dict[str, str]:
    try:
        found = json.loads(line)
    except ValueError as exc:
        raise BadRequest(f"{path}: a line is not JSON: {line[:80]!r}") from exc
    if not isinstance(found, dict):
        raise BadRequest(f"{path}: a line is no object: {line[:80]!r}")
    return {str(key): value if isinstance(value, str) else json.dumps(value)
            for key, value in found.items()}  # fmt: skip


def _item(declared: EvaluationSet, index: int, row: dict[str, str]) -> Item:
    columns = {name: str(column) for name, column in declared.columns.items()}
    if declared.format == "lines":
        columns.setdefault("text", "text")
    missing = [column for column in columns.values() if column not in row]
    if missing:
        raise BadRequest(
            f"set {declared.name}: row {index + 1} of {declared.source} has no column "
            f"{missing[0]!r}; it has {', '.join(map(repr, list(row)[:12]))}"
        )
    values = {name: row[column] for name, column in columns.items()}
    texts = tuple(values[name] for name in COLUMNS[declared.kind] if name in _TEXTS)
    rest = {name: value for name, value in values.items() if name not in COLUMNS[declared.kind]}
    return Item(texts, _expected(declared, index, values), rest)


def _expected(declared: EvaluationSet, index: int, values: dict[str, str]) -> str | float | None:
    if declared.kind == "similarity":
        try:
            return float(values["score"])
        except ValueError:
            raise BadRequest(
                f"set {declared.name}: row {index + 1}: the score must be a number, was "
                f"{values['score']!r}"
            ) from None
    return values.get("label", values.get("expected"))


def _each_once(items: Sequence[Item]) -> list[Item]:
    """Doubles would count twice, and could lie on both sides of a head's split."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for item in items:
        key = tuple(text_digest(text) for text in item.texts)
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def _digest(declared: EvaluationSet, items: Sequence[Item]) -> str:
    facts = [[item.texts, item.expected, item.rest] for item in items]
    return hashlib.sha256(json.dumps([declared.kind, facts]).encode()).hexdigest()[:32]
