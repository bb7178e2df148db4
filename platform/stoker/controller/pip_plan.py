"""What a function wants installed: read from its build steps, and named by its content."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from dataclasses import dataclass
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
    requirements = [entry.strip() for entry in build.requirements if entry.strip()]
    options: list[str] = []
    for command in build.commands:
        _read_command(command, code, requirements, options)
    listed = code / "requirements.txt"
    if listed.is_file():
        _read_file(listed, code, requirements, options)
    return PipPlan(tuple(sorted({_normal(entry) for entry in requirements})), tuple(options))


def _read_command(command: str, code: Path, requirements: list[str], options: list[str]) -> None:
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise BadRequest(f"build command {command!r} cannot be read: {exc}") from exc
    if words[1:3] == ["-m", "pip"] and words[0].startswith("python"):
        words = ["pip", *words[3:]]
    if len(words) < 2 or words[0] not in _PIP or words[1] != "install":
        raise BadRequest(
            f'build command {command!r} is not supported: only "pip install …" runs here, '
            "into the function's own environment"
        )
    _read_words(words[2:], code, requirements, options, command)


def _read_words(
    words: list[str], code: Path, requirements: list[str], options: list[str], where: str
) -> None:
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word in ("-r", "--requirement"):
            _read_file(code / next(rest, ""), code, requirements, options)
        elif word in _WITH_VALUE or word in _FILES:
            options += [word, next(rest, "")]
        elif equals and (name in _WITH_VALUE or name in _FILES):
            options += [name, value]
        elif word in _FLAGS:
            options.append(word)
        elif word in _DROPPED:
            continue
        elif word.startswith("-"):
            raise BadRequest(f"{where!r}: the option {word!r} is not supported")
        else:
            requirements.append(word)


def _read_file(path: Path, code: Path, requirements: list[str], options: list[str]) -> None:
    if not path.is_file():
        raise BadRequest(f"the requirements file {str(path)!r} does not exist")
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("-"):
            _read_words(shlex.split(text), code, requirements, options, text)
        else:
            requirements.append(text)


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
