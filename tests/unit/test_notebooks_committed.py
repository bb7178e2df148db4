"""The notebooks as they are committed: run to their end, and silent about the machine that did."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 1_000_000
OF_A_MACHINE = re.compile(r"/(root|home|Users|tmp|work|var|opt)/|\.pyenv|file:///")
NOISE = re.compile(r"Warning|Traceback|\x1b\[")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def texts(node: Any) -> list[str]:
    """Every text in the outputs but pictures, which are base64."""
    if isinstance(node, str):
        return [node]
    if isinstance(node, list):
        return ["".join(map(str, node))] if all(isinstance(one, str) for one in node) else [
            text for one in node for text in texts(one)
        ]  # fmt: skip
    if isinstance(node, dict):
        return [text for key, one in node.items() if key != "image/png" for text in texts(one)]
    return []


def test_there_are_notebooks() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == [
        f"{n:02}" for n in range(1, len(NOTEBOOKS) + 1)
    ]
    assert len(NOTEBOOKS) >= 3


@each_notebook
def test_every_cell_ran_once_and_in_order(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


@each_notebook
def test_no_cell_failed_and_no_output_is_noise(path: Path) -> None:
    for cell in code_cells(path):
        assert all(output["output_type"] != "error" for output in cell["outputs"])
        for text in texts(cell["outputs"]):
            assert not NOISE.search(text), text


@each_notebook
def test_it_shows_results(path: Path) -> None:
    shown = [output for cell in code_cells(path) for output in cell["outputs"]]
    assert len(shown) >= 5


@each_notebook
def test_nothing_in_it_tells_of_the_machine_it_ran_on(path: Path) -> None:
    for cell in code_cells(path):
        for text in texts(cell["outputs"]):
            assert not OF_A_MACHINE.search(text), text


@each_notebook
def test_it_is_small_and_for_any_python_3_kernel(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    metadata = json.loads(path.read_text())["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
    assert set(metadata) == {"kernelspec", "language_info"}, "no state of widgets"


@each_notebook
def test_it_begins_by_saying_what_is_needed(path: Path) -> None:
    first = json.loads(path.read_text())["cells"][0]
    assert first["cell_type"] == "markdown"
    assert "pip install" in "".join(first["source"])
