"""nuclio-jupyter alone: files, code, archives of settings, redeploys, failures, deletion."""

import os
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
os.environ["NUCLIO_DASHBOARD_URL"] = os.environ["MLRUN_DBPATH"]

import nuclio  # noqa: E402
import requests  # noqa: E402

Path("hello.py").write_text("""
import os

def init_context(context):
    context.user_data.word = os.environ.get("WORD", "hello")

def handler(context, event):
    context.logger.info("called")
    return context.Response(body=f"{context.user_data.word} {event.path}", headers={"x-a": "b"},
                            content_type="text/plain", status_code=200)
""")
spec = nuclio.ConfigSpec(env={"WORD": "good day"}, config={"spec.maxReplicas": 2}).with_http(
    workers=2
)
address = nuclio.deploy_file(
    "hello.py", name="judge-hello", project="judge-jupyter", spec=spec, verbose=True
)
reply = requests.get(f"http://{address}/x", timeout=10)
assert (reply.status_code, reply.text) == (200, "good day /x"), reply.text
assert reply.headers["x-a"] == "b", reply.headers
again = nuclio.deploy_file("hello.py", name="judge-hello", project="judge-jupyter")
assert again == address, (again, address)
assert requests.get(f"http://{address}/", timeout=10).text == "hello /"

code = "def handler(context, event):\n    return {'n': event.body['n'] + 1}\n"
coded = nuclio.deploy_code(code, name="judge-code", project="judge-jupyter")
coded = coded[0] if isinstance(coded, tuple) else coded
assert requests.post(f"http://{coded}", json={"n": 1}, timeout=10).json() == {"n": 2}
assert "judge-code" in nuclio.deploy.list_functions()
try:
    nuclio.deploy_code("def handler(:\n", name="judge-bad", project="judge-jupyter")
except nuclio.utils.DeployError as exc:
    print("refused:", exc)
    status = nuclio.deploy.list_functions()["judge-bad"]["status"]
    assert status["state"] in ("error", "unhealthy"), status
    assert "SyntaxError" in status["message"], status
else:
    raise AssertionError("a syntax error was deployed")
nuclio.delete_func("judge-code")
assert requests.post(f"http://{coded}", json={"n": 1}, timeout=10).status_code == 404
