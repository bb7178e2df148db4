"""docs/mlrun-compatibility.md says what was tried: no script without a row, no row without a script or a reason."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "mlrun-compatibility.md"
SCRIPTS = sorted(
    str(path.relative_to(HERE))
    for folder in ("docs_examples", "judged", "restarts")
    for path in (HERE / folder).glob("*.py")
)


def rows() -> list[tuple[str, str]]:
    """The script and the result of each row of the tables that have these columns."""
    found = []
    columns: list[str] = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = cells
        elif {"Script", "Result"} <= set(columns) and not set(line) <= set("|-"):
            row = dict(zip(columns, cells, strict=True))
            found.append((row["Script"].strip("`"), row["Result"]))
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_a_row(script: str) -> None:
    assert script in {named for named, _ in rows()}


def test_every_row_has_a_script_or_says_why_not() -> None:
    assert len(rows()) > 60
    for script, result in rows():
        assert script in SCRIPTS or not script, script
        assert result, script
        assert script or len(result.split()) > 5, f"no script, and no reason: {result!r}"


def test_what_is_called_working_is_run() -> None:
    """A row that says that something works has a script, and scripts are run by the tests beside."""
    for script, result in rows():
        if result.startswith("works"):
            assert script, result
    runner = (HERE / "test_compat.py").read_text() + (HERE / "test_compat_restarts.py").read_text()
    for folder in {script.partition("/")[0] for script in SCRIPTS}:
        assert folder in runner


def test_scripts_know_nothing_but_the_clients() -> None:
    clients = {"mlrun", "nuclio", "requests", "pandas", "nbclient", "nbformat"}
    imports = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)
    for script in SCRIPTS:
        without_texts = re.sub(r'"""[\s\S]*?"""', "", (HERE / script).read_text())
        foreign = set(imports.findall(without_texts)) - clients - sys.stdlib_module_names
        assert not foreign, script
