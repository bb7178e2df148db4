"""A plain Nuclio function of a project: set, saved, deployed by name, invoked, with its settings.

Pages: docs/concepts/nuclio-real-time-functions, docs/tutorials/genai_01_basic_tutorial (the function)
"""

import json
from pathlib import Path

import mlrun

Path("func.py").write_text("""
def handler(context, event):
    return "Hello"
""")
Path("serving.py").write_text("""
import json
import os

def init_context(context):
    setattr(context, "model", os.environ["MODEL_ID"])

def handler(context, event):
    question = json.loads(event.body) if isinstance(event.body, (str, bytes)) else event.body
    context.logger.info("asked")
    return context.Response(
        body=json.dumps({"response": context.model, "prompt": question["question"]}),
        headers={}, content_type="application/json", status_code=200)
""")

project = mlrun.get_or_create_project("doc-nuclio", "./")
project.set_function(
    func="func.py", image="mlrun/mlrun", kind="nuclio", name="nuclio-func", handler="handler"
)
project.save()
deployed = project.deploy_function("nuclio-func")
assert deployed.function.invoke("/") in ("Hello", b"Hello"), deployed.function.invoke("/")
assert deployed.outputs["endpoint"].startswith("http://"), deployed.outputs

llm = project.set_function(
    func="serving.py", image="registry/llm:1", kind="nuclio", name="serve-llm"
)
llm.set_envs(env_vars={"MODEL_ID": "phi", "CACHE_DIR": "/tmp"})
llm.spec.min_replicas = 1
llm.spec.max_replicas = 1
llm.with_http(worker_timeout=120, gateway_timeout=150, workers=1)
llm.set_config("spec.readinessTimeoutSeconds", 1200)
answer = project.deploy_function("serve-llm").function.invoke(
    "/", body=json.dumps({"question": "why?"})
)
assert answer == {"response": "phi", "prompt": "why?"}, answer
