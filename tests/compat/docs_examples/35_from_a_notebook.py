"""The first graph as its page has it: code between marks in a notebook, converted and deployed by the kernel.

Page: docs/serving/getting-started (up to 1.10), docs/concepts (code annotations)
"""

import os
from pathlib import Path

import mlrun
import nbclient
import nbformat

CELLS = (
    "left_out = 1 / 1",
    "# mlrun: start-code",
    "def inc(x):\n    return x + 1\n\n\ndef mul(x):\n    return x * 2",
    "# mlrun: end-code",
    "import mlrun\n\n"
    "project = mlrun.get_or_create_project('doc-notebook', './')\n"
    "fn = mlrun.code_to_function('simple-graph', kind='serving', image='mlrun/mlrun')\n"
    "graph = fn.set_topology('flow')",
    "graph.to(name='+1', handler='inc').to(name='*2', handler='mul').respond()",
    "fn.deploy()",
    "assert fn.invoke('', body=5) == 12",
)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
nbformat.write(notebook, "first.ipynb")
os.environ["JUPYTER_NOTEBOOK_FILE_NAME"] = str(Path("first.ipynb").resolve())
resources = {"metadata": {"path": "."}}
nbclient.NotebookClient(notebook, timeout=90, kernel_name="python3", resources=resources).execute()

# The same notebook given by name to a project.
project = mlrun.get_or_create_project("doc-notebook", "./")
again = project.set_function("first.ipynb", name="by-name", kind="serving", image="mlrun/mlrun")
again.set_topology("flow").to(name="*2", handler="mul").respond()
project.deploy_function(again)
assert again.invoke("", body=5) == 10
