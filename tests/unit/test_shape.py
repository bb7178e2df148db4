"""The shape of the house: what must never creep in, and what the docs may not get wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stoker.nouns.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("functions/*/*.md")])
HEAVY = ("torch", "transformers", "mlrun", "onnxruntime", "nuclio")


def test_platform_is_no_package() -> None:
    """A top-level package named platform would shadow the standard library's."""
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_core_imports_without_mlrun_and_torch() -> None:
    rooms = [
        "nouns",
        "decide",
        "store",
        "sdk",
        "gateway",
        "worker",
        "controller",
        "api",
        "cli.main",
    ]
    blocked = ";".join(f"sys.modules[{name!r}] = None" for name in HEAVY)
    imports = ";".join(f"import stoker.{room}" for room in rooms)
    code = f"import sys;{blocked};{imports}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "tests")


def test_the_version_is_that_of_the_project() -> None:
    """A checkout that is not installed knows it too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    roots = "platform|functions|graphs|docs|tests|bench|demo|notebooks|deploy"
    named = re.findall(rf"(?<![\w/.\-])((?:{roots})/[\w./\-]*\w)", page.read_text())
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z\-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\s)make ([a-z][a-z\-]+)", page.read_text(), re.MULTILINE))
    named -= {"it", "sure", "room", "them", "a", "the"}
    assert named <= targets
