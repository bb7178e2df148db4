"""What a function wants installed: read from its build steps, and named by its content."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from stoker.nouns.errors import BadRequest
from stoker.nouns.parts import Build

_WITH_VALUE = frozenset(
    {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host"}
)
_FILES = frozenset({"-c", "--constraint"})
_FLAGS = frozenset(
    {
        "-U",
        "--upgrade",
        "--pre",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--prefer-binary",
    }
)
_DROPPED = frozenset({"-q", "--quiet", "--no-cache-dir", "-y", "--user", "--no-input"})
_PIP = frozenset({"pip", "pip3"})


@dataclass(frozen=True, slots=True)
class PipPlan:
    """The arguments of one ``pip install``.

    Attributes:
        requirements: names with versions, wheels, folders; sorted.
        options: pip's options, in the order in which they were written.
    """

    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing is to be installed."""
        return not self.requirements

    def digest(self, code: Path) -> str:
        """The name of the environment: same Python, same requirements, same environment."""
        lines = [f"python {sys.version_info.major}.{sys.version_info.minor}", *self.options]
        lines += [f"{entry} {_content(code / entry)}".strip() for entry in self.requirements]
        lines += [_content(code / value) for value in self.options]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]


def read_plan(build: Build, code: Path) -> PipPlan:
    """Collects requirements from ``build.requirements``, ``requirements.txt`` and ``pip install``.

    Raises:
        BadRequest: a build command is anything but ``pip install``, or carries an option that would
            reach outside the function's environment.
    """
    reading = _Reading(code, [entry.strip() for entry in build.requirements if entry.strip()])
    for command in build.commands:
        reading.command(command)
    listed = code / "requirements.txt"
    if listed.is_file():
        reading.file(listed)
    requirements = sorted({_normal(entry) for entry in reading.requirements})
    return PipPlan(tuple(requirements), tuple(reading.options))


def _split(text: str, what: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise BadRequest(f"{what} {text!r} cannot be read: {exc}") from exc


@dataclass(slots=True)
class _Reading:
    """What has been read so far.

    Attributes:
        code: where files are looked for.
        requirements: as written.
        options: as written, with their values.
        files: those that were read: two that name each other would be read without end.
    """

    code: Path
    requirements: list[str]
    options: list[str] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)

    def command(self, command: str) -> None:
        words = _split(command, "build command")
        if words[1:3] == ["-m", "pip"] and words[0].startswith("python"):
            words = ["pip", *words[3:]]
        if len(words) < 2 or words[0] not in _PIP or words[1] != "install":
            raise BadRequest(
                f'build command {command!r} is not supported: only "pip install …" runs here, '
                "into the function's own environment"
            )
        self._words(words[2:], command)

    def _words(self, words: list[str], where: str) -> None:
        rest = iter(words)
        for word in rest:
            name, equals, value = word.partition("=")
            if word in ("-r", "--requirement"):
                self.file(self.code / next(rest, ""))
            elif word in _WITH_VALUE or word in _FILES:
                self.options += [word, next(rest, "")]
            elif equals and (name in _WITH_VALUE or name in _FILES):
                self.options += [name, value]
            elif word in _FLAGS:
                self.options.append(word)
            elif word in _DROPPED:
                continue
            elif word.startswith("-"):
                raise BadRequest(f"{where!r}: the option {word!r} is not supported")
            else:
                self.requirements.append(word)

    def file(self, path: Path) -> None:
        if not path.is_file():
            raise BadRequest(f"the requirements file {str(path)!r} does not exist")
        if path.resolve() in self.files:
            return
        self.files.add(path.resolve())
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.split(" #")[0].strip()
            if not text or text.startswith("#"):
                continue
            if text.startswith("-"):
                self._words(_split(text, f"{path.name}: the line"), text)
            else:
                self.requirements.append(text)


def _normal(entry: str) -> str:
    """``Foo_Bar == 1.0`` and ``foo-bar==1.0`` are one; paths and URLs stay as they are."""
    if "/" in entry or entry.endswith(".whl"):
        return entry
    name_end = next((i for i, c in enumerate(entry) if not (c.isalnum() or c in "-_.")), len(entry))
    rest = entry[name_end:]
    head, marker, tail = rest.partition(";")
    return normalised(entry[:name_end]) + "".join(head.split()) + (marker + tail)


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _content(path: Path) -> str:
    """A hash of what a local requirement holds; empty for what is no local file."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if path.is_dir():
        total = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            total.update(str(file.relative_to(path)).encode())
            total.update(file.read_bytes())
        return total.hexdigest()
    return ""
