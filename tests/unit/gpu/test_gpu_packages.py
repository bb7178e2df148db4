"""What a Python with a card of its own must have, and the list of what is brought to it."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
USUAL = """accelerate hypothesis httpx jinja2 matplotlib numpy nvidia-ml-py onnx onnxruntime
onnxscript packaging peft pillow prometheus-client psutil pytest pytest-timeout pyyaml rich
safetensors scikit-learn scipy tokenizers torch transformers typer uvloop"""
"""What a machine for models usually has, beside what these bring along."""


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("packages", ROOT / "tests/gpu/packages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


packages = loaded()


def brought() -> list[str]:
    lines = (ROOT / "gpu-wheels.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def with_all_that_they_need(names: list[str]) -> Iterator[str]:
    from packaging.requirements import Requirement

    queue, seen = list(names), set()
    while queue:
        name = queue.pop()
        if name in seen or packages.version_of(name) is None:
            continue
        seen.add(name)
        yield name
        for text in packages.needs_of(name):
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                queue.append(packages.name_of(needed.name))


def project() -> list[str]:
    return list(packages.wanted(tomllib.loads((ROOT / "pyproject.toml").read_text())))


def test_what_is_brought_makes_the_usual_whole() -> None:
    """A new dependency must be named as usual, or be brought."""
    there = {*brought(), *with_all_that_they_need(USUAL.split())}
    lacking = packages.missing(
        project(), lambda name: packages.version_of(name) if name in there else None,
        packages.needs_of,
    )  # fmt: skip
    # Names of both spellings, as metadata has them.
    assert [line for line in lacking if packages.name_of(line) not in there] == []


def test_nothing_is_brought_that_nobody_needs() -> None:
    needed = {*with_all_that_they_need([packages.name_of(text) for text in project()])}
    assert set(brought()) <= needed


def test_each_is_brought_in_the_version_that_is_tried_here() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {packages.name_of(line) for line in lines if not line.startswith("#")}
    assert set(brought()) <= pinned


def lacking(*requirements: str, there: dict[str, str], needs: dict[str, list[str]]) -> list[str]:
    return list(packages.missing(requirements, there.get, lambda name: needs.get(name, [])))


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({}, ["pydantic>=2.7"]),
        ({"pydantic": "1.10"}, ["pydantic>=2.7: 1.10 is there", "core==9, which pydantic needs"]),
        ({"pydantic": "2.9"}, ["core==9, which pydantic needs"]),
        ({"pydantic": "2.9", "core": "8"}, ["core==9, which pydantic needs: 8 is there"]),
        ({"pydantic": "2.9", "core": "9"}, []),
    ],
)
def test_each_missing_or_old_package_is_named_with_who_needs_it(
    there: dict[str, str], said: list[str]
) -> None:
    needs = {"pydantic": ["core==9", 'other; extra == "more"', 'old; python_version < "3"']}
    assert lacking("pydantic>=2.7", there=there, needs=needs) == said
