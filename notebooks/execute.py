"""Runs the notebooks from clean kernels and keeps them with their outputs: ``make notebooks``.

    python notebooks/execute.py [--into FOLDER] [NOTEBOOK ...]

Each notebook has a kernel, a platform and a copy of the project of its own, whose ``project.yaml``
it must leave as it is: MLRun's ``load_project`` rewrites it unless told otherwise. What the one has
prepared of models, a minute's work, is there for the next. A notebook is written back, or into
FOLDER, only if every cell ran, and without what only this machine has: its names, its paths and its
package index.
"""

import argparse
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from stoker.app.down import down
from stoker.nouns.home import Home

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
PROJECT = (
    "project.yaml",
    "project_setup.py",
    "functions",
    "graphs",
    "workflows",
    "demo",
    "notebooks",
)
CELL_TIMEOUT_S = 300
STOP_S = 60
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ELSEWHERE = ("MLRUN_DBPATH", "NUCLIO_DASHBOARD_URL", "STOKER_URL", "MLRUN_ENV_FILE")
"""What would point the clients to a platform that is not the notebook's own."""
OWNER = "jovyan"
"""Who is said to have run it: Jupyter's own name for nobody in particular."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ProjectRewritten(Exception):
    """A notebook changed the project that it lies in."""


def main():
    """Runs those that are named, or all; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--into", type=Path, default=FOLDER, help="where to write the results")
    arguments = parser.parse_args()
    paths = arguments.notebooks or sorted(FOLDER.glob("*.ipynb"))
    with tempfile.TemporaryDirectory(prefix="stoker-models-") as models:
        kept = [keep(path, arguments.into, Path(models) / "models") for path in paths]
    return 0 if all(kept) else 1


def keep(path, into, models):
    """Runs a notebook and writes it; whether every cell ran."""
    started = time.monotonic()
    try:
        executed = execute(path, models)
    except (CellExecutionError, ProjectRewritten) as error:
        print(f"✗ {path.name}: {COLOURS.sub('', str(error))}", file=sys.stderr)
        return False
    (into / path.name).write_text(nbformat.writes(executed) + "\n", "utf-8")
    print(f"✓ {path.name} in {time.monotonic() - started:.0f} s", flush=True)
    return True


def execute(path, models):
    """The notebook with the outputs of a run on a platform that has nothing yet but ``models``.

    Raises:
        CellExecutionError: a cell raised.
        ProjectRewritten: whoever runs it would find a change in the checkout.
    """
    # Short, and not below the checkout: the path of a unix socket may have 107 bytes at most.
    scratch = Path(tempfile.mkdtemp(prefix="stoker-nb-"))
    home = scratch / "home"
    try:
        notebook = cleared(nbformat.read(path, as_version=4))
        folder = copied_project(scratch / "project", path)
        move(models, home / "models")
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT_S,
            kernel_name="python3",
            record_timing=False,
            # By unix sockets: what a kernel hears over TCP anybody on the machine could send it.
            config=Config({"KernelManager": {"transport": "ipc", "ip": str(scratch / "kernel")}}),
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=environment(home))
        if (scratch / "project/project.yaml").read_bytes() != (ROOT / "project.yaml").read_bytes():
            raise ProjectRewritten(f"{path.name} rewrites project.yaml: load_project(save=False)")
        return tidied(notebook, scratch)
    finally:
        # It stops with the kernel; here it is waited for, so that nothing still writes.
        down(Home.at(home), STOP_S)
        move(home / "models", models)
        shutil.rmtree(scratch, ignore_errors=True)


def move(folder, target):
    """Puts a folder elsewhere, if there is one."""
    if folder.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)


def cleared(notebook):
    """Without outputs."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def copied_project(target, notebook):
    """What a notebook reads of the checkout, and the notebook; the folder that it runs in."""
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored)
        elif source.exists():
            target.mkdir(exist_ok=True)
            shutil.copy(source, target / name)
    folder = target / "notebooks"
    shutil.copy(notebook, folder / notebook.name)
    return folder


def environment(home):
    """What the kernel sees: a home of its own, no other platform, no settings of this machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ELSEWHERE and not name.startswith("PIP_")
    }
    # pip would tell of package indexes that only this machine has.
    own = {"STOKER_HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "LOGNAME": OWNER}
    # `stoker` is found as in a shell where its environment is active.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return kept | own | {"PATH": path, "MLRUN_IGNORE_ENV_FILE": "1", "NO_COLOR": "1"}


def tidied(notebook, scratch):
    """Without what differs from machine to machine, and each stream in one piece."""
    notebook.metadata = nbformat.from_dict(METADATA)
    host = socket.gethostname()
    places = {
        str(scratch / "home"): "~/.stoker",
        str(scratch / "project"): ".",
        str(ROOT): ".",
        str(Path.home()): "~",
        f'title="{host}">host={host}<': 'title="localhost">host=localhost<',
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
            for output in cell.outputs:
                rewrite(output, places)
    return notebook


def joined(outputs):
    """Pieces of one stream that follow each other, as one output."""
    whole = []
    for output in outputs:
        last = whole[-1] if whole else None
        if last and last.output_type == "stream" == output.output_type and last.name == output.name:
            last.text += output.text
        else:
            whole.append(output)
    return whole


def rewrite(node, places):
    """Puts names of places into every text of an output."""
    for key, value in node.items():
        if isinstance(value, dict):
            rewrite(value, places)
        elif isinstance(value, str):
            for place, shown in places.items():
                value = value.replace(place, shown)
            node[key] = COLOURS.sub("", value)


if __name__ == "__main__":
    sys.exit(main())
