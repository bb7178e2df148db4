"""nuclio-jupyter's magics, unmodified: a notebook deploys itself from a clean kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from live_platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun]

HANDLER = """%%nuclio handler
context.logger.info_with("asked", limit=os.environ["LIMIT"])
words = event.body.decode().split()
counted(words)[: int(os.environ["LIMIT"])] + [os.environ.get("ONLY_HERE", "not set")]
"""
CODE = """# nuclio: start-code
import os

import wordcount


def counted(words):
    return sorted(wordcount.count(words).items())
"""
IN_THE_KERNEL = """# nuclio: ignore
import collections
import os
import sys
import types

sys.modules["wordcount"] = types.SimpleNamespace(count=collections.Counter)
assert os.environ["LIMIT"] == "2", "env sets it here too"
assert "ONLY_THERE" not in os.environ, "env -c does not"
assert os.environ["ONLY_HERE"] == "yes"
event = nuclio.Event(body=b"b a b c")
"""
CONFIG = """%%nuclio config
spec.minReplicas = 0
spec.maxReplicas = 3
spec.eventTimeout = "7s"
spec.triggers.http = {"kind": "http", "numWorkers": 2}
"""


def wheel(folder: Path) -> Path:
    """A distribution that is installed nowhere: importing it shows that the build step ran."""
    path = folder / "wordcount-1.0-py3-none-any.whl"
    record = "wordcount-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("wordcount.py", "from collections import Counter as count\n")
        archive.writestr(
            f"{record}/METADATA", "Metadata-Version: 2.1\nName: wordcount\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{record}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{record}/RECORD", "")
    return path


def executed(path: Path, cells: list[str], **variables: str) -> list[str]:
    """Writes a notebook, runs it in a kernel of its own; what each of its cells said."""
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    path.write_text(nbformat.writes(notebook))
    kernel = {"JUPYTER_NOTEBOOK_FILE_NAME": str(path), "MLRUN_IGNORE_ENV_FILE": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", path],
        env=os.environ | kernel | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return ["".join(map(said, cell.outputs)) for cell in nbformat.read(path, 4).cells]


def said(output: Any) -> str:
    text: str = output.get("text") or output.get("data", {}).get("text/plain", "")
    return text


def test_a_notebook_deploys_its_cells_with_their_env_config_and_build_step(
    running: Platform, tmp_path: Path
) -> None:
    assert running.endpoints is not None
    url = running.endpoints.control_url
    outputs = executed(
        tmp_path / "counter.ipynb",
        [
            "# nuclio: ignore\nimport nuclio",
            "%%nuclio env\nLIMIT=2",
            "%nuclio env -c ONLY_THERE=yes",
            "%nuclio env -l ONLY_HERE=yes",
            f"%nuclio cmd -c pip install --no-index {wheel(tmp_path)}",
            CONFIG,
            IN_THE_KERNEL,
            CODE,
            HANDLER,
            f"# nuclio: end-code\n%nuclio deploy -n counted -p magics -d {url}",
        ],
    )
    assert outputs[-2].endswith("[('a', 1), ('b', 2), 'yes']"), "the handler runs in the kernel too"
    assert "function deployed" in outputs[-1]

    deployed = running.client.get(f"{url}/api/functions/counted").json()
    assert deployed["metadata"]["labels"]["nuclio.io/project-name"] == "magics"
    spec = deployed["spec"]
    env = {variable["name"]: variable["value"] for variable in spec["env"]}
    assert env == {"LIMIT": "2", "ONLY_THERE": "yes"}
    assert (spec["minReplicas"], spec["maxReplicas"], spec["eventTimeout"]) == (0, 3, "7s")
    answer = running.call("counted", b"b a b c")
    assert answer.json() == [["a", 1], ["b", 2], "not set"]
    (replica,) = running.client.get(f"{url}/api/stoker/ps").json()["replicas"]
    assert len(replica["workers"]) == 2, "numWorkers came from the config cell"


def test_what_cannot_be_deployed_says_why_in_the_cell(running: Platform, tmp_path: Path) -> None:
    assert running.endpoints is not None
    url = running.endpoints.control_url
    outputs = executed(
        tmp_path / "refused.ipynb",
        [
            "# nuclio: ignore\nimport nuclio",
            "%nuclio cmd echo run here",
            "def handler(context, event):\n    return 1",
            "%nuclio deploy -n refused",
            "%nuclio deploy -n refused -p magics",
        ],
        NUCLIO_DASHBOARD_URL=url,
    )
    assert outputs[1].strip() == "run here"
    assert "project name must be specified" in outputs[3]
    assert 'only "pip install …" runs here' in outputs[4]
    assert "function deployed" not in outputs[4]
    state = running.client.get(f"{url}/api/functions/refused").json()["status"]["state"]
    assert state == "error"
