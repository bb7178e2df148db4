"""A serving graph run as a local batch job over a dataset.

Page: docs/serving (serving graphs as jobs, ``to_job``)
"""

from pathlib import Path

import mlrun
import pandas as pd

Path("steps.py").write_text("""
class Double:
    def do(self, event):
        event["x"] = event["x"] * 2
        return event
""")
project = mlrun.get_or_create_project("doc-to-job", "./")
fn = project.set_function("steps.py", name="graph", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow", engine="async")
graph.to(class_name="Double", name="double").respond()
job = fn.to_job()
data = project.log_dataset("rows", df=pd.DataFrame({"x": [1, 2, 3]}), format="parquet")
run = project.run_function(job, inputs={"data": data.uri}, local=True)
assert run.state() == "completed", run.state()
