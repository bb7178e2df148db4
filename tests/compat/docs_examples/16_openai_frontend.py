"""``set_openai_frontend(prefix="/v1")``: responses and chat completions, their errors and a custom path.

Page: docs/serving/openai-frontend
"""

from http import HTTPMethod
from pathlib import Path

import mlrun
import requests
from mlrun.common.schemas.serving import APIHandlerAction
from mlrun.serving.endpoint_mapping import APIHandlerConfig

Path("openai_handler.py").write_text("""
import mlrun

def dispatch(body, mlrun_request_path=None, mlrun_request_method=None, model=None, messages=None,
             completion_id=None, response_id=None, input=None, **kwargs):
    if mlrun_request_path.endswith("/health"):
        return {"fine": True}
    if completion_id == "gone":
        raise mlrun.errors.MLRunNotFoundError("no such completion")
    if "chat/completions" in mlrun_request_path:
        if mlrun_request_method == "DELETE":
            return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}
        said = messages[-1]["content"] if messages else ""
        return {"id": "c1", "object": "chat.completion", "created": 1, "model": model or "m",
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": "you said " + said}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                "internal": "not for the client"}
    return {"id": "r1", "object": "response", "created_at": 1, "model": model, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "output": [
                {"type": "message", "role": "assistant", "id": "m", "status": "completed",
                 "content": [{"type": "output_text", "text": "echo " + str(input), "annotations": []}]}],
            "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0}
""")

project = mlrun.get_or_create_project("doc-openai", "./")
fn = project.set_function(
    "openai_handler.py", name="openai-frontend", kind="serving", image="mlrun/mlrun"
)
fn.set_api_handler_config(APIHandlerConfig(include_url_info=True))
fn.set_openai_frontend(prefix="/v1")
config = APIHandlerConfig.from_dict(fn.spec.api_handler_config)
config.add_endpoint_handler("/health", HTTPMethod.GET, APIHandlerAction.ALLOW)
config.add_endpoint_handler("/admin/*", HTTPMethod.GET, APIHandlerAction.FORBID)
fn.set_api_handler_config(config)
graph = fn.set_topology("flow", engine="sync")
graph.to(name="dispatch", handler="dispatch").respond()
fn.deploy()

url = fn.get_url().rstrip("/")
body = {"model": "gpt", "messages": [{"role": "user", "content": "Hello"}]}
reply = requests.post(f"{url}/v1/chat/completions", json=body, timeout=20)
assert reply.status_code == 200, reply.text
completion = reply.json()
assert completion["choices"][0]["message"]["content"] == "you said Hello", completion
assert "internal" not in completion, completion

reply = requests.post(f"{url}/v1/responses", json={"model": "gpt", "input": "hi"}, timeout=20)
assert reply.status_code == 200, reply.text
assert reply.json()["output"][0]["content"][0]["text"] == "echo hi", reply.text

missing = requests.post(f"{url}/v1/chat/completions", json={"model": "gpt"}, timeout=20)
assert missing.status_code == 422, (missing.status_code, missing.text)
assert "messages" in missing.text, missing.text
gone = requests.get(f"{url}/v1/chat/completions/gone", timeout=20)
assert gone.status_code == 404, (gone.status_code, gone.text)
assert requests.get(f"{url}/health", timeout=20).json() == {"fine": True}
assert requests.get(f"{url}/admin/keys", timeout=20).status_code == 403
assert requests.get(f"{url}/v1/nowhere", timeout=20).status_code == 404
assert requests.put(f"{url}/v1/responses", json={}, timeout=20).status_code == 405
