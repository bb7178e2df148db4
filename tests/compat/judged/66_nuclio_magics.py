"""``%nuclio`` magics in a notebook of its own kernel: env, cmd, config, handler, deploy."""

import os
from pathlib import Path

import nbclient
import nbformat
import requests

cells = [
    "import warnings; warnings.simplefilter('ignore')\n"
    "import os; os.environ['NUCLIO_DASHBOARD_URL'] = os.environ['MLRUN_DBPATH']\nimport nuclio",
    "%nuclio env WORD=magic",
    "%nuclio env -c HIDDEN=here",
    "%nuclio cmd -c pip install --quiet pip",
    "%nuclio config spec.maxReplicas = 3",
    "# nuclio: ignore\nleft_out = 1 / 1",
    "import os\n\ndef handler(context, event):\n    return os.environ['WORD'] + ' ' + os.environ['HIDDEN']",
    "%nuclio deploy -n judge-magics -p judge-jupyter",
]
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
notebook.metadata["kernelspec"] = {
    "name": "python3",
    "display_name": "python3",
    "language": "python",
}
path = Path("magics.ipynb")
nbformat.write(notebook, path)
client = nbclient.NotebookClient(
    notebook, timeout=90, kernel_name="python3", resources={"metadata": {"path": "."}}
)
os.environ["JUPYTER_NOTEBOOK_FILE_NAME"] = str(path.resolve())  # as a Jupyter server sets it
client.execute()
said = "".join(
    output.get("text", "")
    for cell in notebook.cells
    for output in cell.get("outputs", [])
    if output.output_type == "stream"
)
print(said[-1500:])
base = os.environ["MLRUN_DBPATH"].rstrip("/")
function = requests.get(f"{base}/api/functions/judge-magics", timeout=10).json()
assert function["status"]["state"] == "ready", function["status"]
assert function["spec"]["maxReplicas"] == 3, function["spec"]
url = "http://" + function["status"]["externalInvocationUrls"][0]
assert requests.get(url, timeout=10).text == "magic here", requests.get(url, timeout=10).text
