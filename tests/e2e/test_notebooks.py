"""The notebooks, executed: what is committed is what a clean kernel gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
pytestmark = [pytest.mark.e2e, pytest.mark.mlrun, pytest.mark.models, pytest.mark.timeout(900)]


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def shape(cell: dict[str, Any]) -> list[str]:
    """What kinds of outputs a cell has: their texts and pictures differ from run to run."""
    return [
        output.get("name") or " ".join(sorted(output.get("data", {})))
        for output in cell["outputs"]
    ]  # fmt: skip


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where all of them lie, run one after the other."""
    folder = tmp_path_factory.mktemp("notebooks")
    result = subprocess.run(
        [sys.executable, "notebooks/execute.py", "--into", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_clean_kernel_gives_what_is_committed(path: Path, executed: Path) -> None:
    committed, ran = code_cells(path), code_cells(executed / path.name)
    for number, (before, now) in enumerate(zip(committed, ran, strict=True), start=1):
        assert now["source"] == before["source"]
        assert now["execution_count"] == number
        assert shape(now) == shape(before), f"cell {number}: {''.join(now['source'])}"


def text(path: Path) -> str:
    """All that the cells of a notebook say."""
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    said = [
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs
    ]
    return "\n".join("".join(lines) for lines in said)


def test_the_service_is_right_about_most_articles(executed: Path) -> None:
    said = text(executed / "01-deploy-from-a-notebook.ipynb")
    (right, of) = re.search(r"'(\d+) of (\d+) where the editor filed them'", said).groups()  # type: ignore[union-attr]
    assert int(right) / int(of) >= 0.8
    assert float(re.search(r"'accuracy': ([\d.]+)", said)[1]) >= 0.8  # type: ignore[index]


def test_every_article_of_the_queue_has_its_result(executed: Path) -> None:
    said = text(executed / "02-serving-graphs.ipynb")
    assert "60 of 60 have a result" in said


def test_one_in_five_requests_goes_to_the_challenger(executed: Path) -> None:
    assert "Counter({'champion': 48, 'challenger': 12})" in text(
        executed / "02-serving-graphs.ipynb"
    )


def test_a_failing_step_is_named_and_the_graph_goes_on(executed: Path) -> None:
    said = text(executed / "02-serving-graphs.ipynb")
    assert said.count("'by': 'text-preprocess'") == 2
    assert "[{'label': 'sport" in said


def test_the_magics_deploy_redeploy_and_fail_without_harm(executed: Path) -> None:
    said = text(executed / "03-nuclio-magics.ipynb")
    assert said.count("%nuclio: function deployed") == 2
    assert "'SENTENCES', 'value': '2'" in said
    assert "unhealthy · worker" in said
