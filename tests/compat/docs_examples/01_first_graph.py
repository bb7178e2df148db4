"""Three chained steps, two functions and a class with state, deployed and called twice.

Page: docs/serving/getting-started (first graph, up to 1.10)
"""

from pathlib import Path

import mlrun

Path("steps.py").write_text("""
def inc(x):
    return x + 1

def mul(x):
    return x * 2

class WithState:
    def __init__(self, name, context, init_val=0):
        self.name = name
        self.context = context
        self.counter = init_val

    def do(self, x):
        self.counter += 1
        return x + self.counter
""")

project = mlrun.get_or_create_project("doc-first-graph", "./")
fn = project.set_function("steps.py", name="simple-graph", kind="serving", image="mlrun/mlrun")
graph = fn.set_topology("flow")
graph.to(name="+1", handler="inc").to(name="*2", handler="mul").to(
    name="(X+counter)", class_name="WithState"
).respond()

server = fn.to_mock_server()
assert server.test(body=5) == 13
assert server.test(body=5) == 14
server.wait_for_completion()

fn.deploy()
assert fn.invoke("", body=5) == 13
assert fn.invoke("", body=5) == 14
