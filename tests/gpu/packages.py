"""Whether a Python has what the tests and the benchmark on a card need; says what is missing.

Run by that very Python, with nothing but its standard library: ``python3 tests/gpu/packages.py``.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("models", "quant", "quality")
"""Of the project's own, beside what it always needs."""
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout")
"""Of its extra ``dev``: the configuration of pytest names options of all three."""
UNUSED = frozenset({"neural-compressor"})
"""What the tests on a card do without: only the preparation of ``gptq`` imports it."""

Version = Callable[[str], str | None]
Needs = Callable[[str], list[str]]


def wanted(project: dict[str, dict[str, object]]) -> list[str]:
    """The requirements, as a pyproject.toml has them."""
    table = project["project"]
    extras: dict[str, list[str]] = table["optional-dependencies"]  # type: ignore[assignment]
    found: list[str] = list(table["dependencies"])  # type: ignore[call-overload]
    for extra in EXTRAS:
        found += extras[extra]
    found += [text for text in extras["dev"] if name_of(text) in TOOLS]
    return [text for text in dict.fromkeys(found) if name_of(text) not in UNUSED]


def name_of(requirement: str) -> str:
    """The package that a requirement is about.

    >>> name_of("neural-compressor[pt]>=3.10"), name_of("typing_extensions (>=4)")
    ('neural-compressor', 'typing-extensions')
    """
    head = "".join(c if c.isalnum() or c in "-_." else " " for c in requirement)
    return head.split()[0].lower().replace("_", "-").replace(".", "-")


def version_of(name: str) -> str | None:
    """The installed one's version; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def missing(requirements: Iterable[str], version: Version, needs: Needs) -> Iterator[str]:
    """What is not there, or too old, in words: of the requirements, and of what they need."""
    from packaging.requirements import Requirement

    queue = [(text, "") for text in requirements]
    seen: set[str] = set()
    absent: set[str] = set()
    while queue:
        text, wanting = queue.pop(0)
        requirement = Requirement(text)
        if text in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(text)
        name, found = name_of(requirement.name), version(requirement.name)
        because = f", which {wanting} needs" if wanting else ""
        if found is None:
            if name not in absent:
                yield f"{requirement.name}{requirement.specifier}{because}"
            absent.add(name)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name}{requirement.specifier}{because}: {found} is there"
        queue += [(each, requirement.name) for each in needs(requirement.name)]


def needs_of(name: str) -> list[str]:
    """What an installed package says that it needs."""
    return metadata.requires(name) or []


def main() -> int:
    """0: all is there; 1: what is missing stands on stderr, a line each."""
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        sys.stderr.write(f"Python 3.11 or 3.12 is needed, {sys.executable} is {sys.version}\n")
        return 1
    if version_of("packaging") is None:
        sys.stderr.write(f"{sys.executable} has no package 'packaging', by which this looks\n")
        return 1
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = list(missing(wanted(project), version_of, needs_of))
    if not lines:
        return 0
    sys.stderr.write(f"{sys.executable} lacks:\n")
    sys.stderr.writelines(f"  {line}\n" for line in lines)
    sys.stderr.write(
        "where there is a package index, `make gpu-wheels` collects in .gpu-wheels/ what "
        "gpu-wheels.txt names; bring the folder here and run this again\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
