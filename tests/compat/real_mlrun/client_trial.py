"""What a user does against the real MLRun server, run by that server's own (older) Python.

Reads ``MLRUN_DBPATH``. Prints one line ``STEP <name>`` before and ``OK <name>``, ``FAILED <name>: why``
after each step, so that the trial around it can say which requests belong to which step.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
import urllib.request

import mlrun

FAILED = []
PROJECT = "real-" + os.environ.get("TRIAL_SUFFIX", "x")

HANDLER = """
import os

def init_context(context):
    context.user_data.greeting = os.environ.get("GREETING", "hello")

def handler(context, event):
    context.logger.info_with("called", path=event.path)
    if event.path == "/boom":
        raise ValueError("boom")
    body = event.body if isinstance(event.body, dict) else {}
    return {"says": context.user_data.greeting + " " + body.get("name", "you"), "version": VERSION}
"""

SERVING = """
import mlrun.serving

class Doubler(mlrun.serving.V2ModelServer):
    def load(self):
        path, _ = self.get_model(".pkl")
        with open(path) as file:
            self.model = int(file.read())

    def predict(self, request):
        return [self.model * value for value in request["inputs"]]

class Add:
    def __init__(self, amount=1):
        self.amount = amount

    def do(self, event):
        return {"value": event["value"] + self.amount}
"""


def step(function):
    """Runs at once; a failure is told and the next step is tried all the same."""
    name = function.__name__
    print(f"STEP {name}", flush=True)
    try:
        told = function()
    except BaseException as exc:
        FAILED.append(name)
        traceback.print_exc()
        why = " ".join(f"{type(exc).__name__}: {exc}".split())
        print(f"FAILED {name}: {why[:500]}", flush=True)
        return None
    print(f"OK {name}" + (f": {told}" if told else ""), flush=True)
    return function


def written(code):
    handle, path = tempfile.mkstemp(suffix=".py", dir=os.environ["TRIAL_DIR"])
    with os.fdopen(handle, "w") as file:
        file.write(code)
    return path


def eventually(what, within_s=30):
    """Newer servers delete in the background."""
    deadline = time.monotonic() + within_s
    while not what() and time.monotonic() < deadline:
        time.sleep(0.2)
    return what()


def nuclio_functions():
    with urllib.request.urlopen(os.environ["STOKER_CONTROL"] + "/api/functions") as reply:
        return [name for name in json.load(reply) if name.startswith(PROJECT)]


def project():
    return mlrun.get_or_create_project(PROJECT, context=os.environ["TRIAL_DIR"])


@step
def the_server_says_which_version_it_is():
    spec = mlrun.get_run_db().api_call("GET", "client-spec").json()
    assert spec["nuclio_version"], spec
    return f"mlrun {spec['version']}, nuclio {spec['nuclio_version']}"


@step
def a_project_is_created():
    assert project().metadata.name == PROJECT
    assert PROJECT in mlrun.get_run_db().list_projects(format_="name_only")


@step
def a_project_is_saved_with_a_description():
    made = project()
    made.spec.description = "made by a real server"
    made.save()


@step
def a_nuclio_function_is_deployed_and_invoked():
    path = written(HANDLER.replace("VERSION", "1"))
    function = project().set_function(path, name="greet", kind="nuclio", image="mlrun/mlrun")
    function.set_env("GREETING", "good day")
    function.with_http(workers=2)
    deployed = project().deploy_function(function)
    assert deployed.function.status.state == "ready", deployed.function.status
    answer = function.invoke("/", body={"name": "Ada"})
    assert answer == {"says": "good day Ada", "version": 1}, answer
    return function.status.address


@step
def its_status_and_its_log_are_told():
    function = project().get_function("greet", sync=True)
    text, *_ = mlrun.get_run_db().get_builder_status(function, 0, verbose=True)
    assert function.status.state == "ready", function.status.state
    assert "serves" in text, text


@step
def an_exception_reaches_the_caller():
    function = project().get_function("greet", sync=True)
    try:
        function.invoke("/boom")
    except RuntimeError as exc:
        assert "boom" in str(exc) or "500" in str(exc), exc
    else:
        raise AssertionError("no exception")


@step
def a_redeploy_gives_the_new_code_at_the_same_address():
    path = written(HANDLER.replace("VERSION", "2"))
    before = project().get_function("greet", sync=True).status.address
    function = project().set_function(path, name="greet", kind="nuclio", image="mlrun/mlrun")
    function.deploy()
    assert function.status.address == before, (function.status.address, before)
    answer = function.invoke("/", body={})
    assert answer == {"says": "hello you", "version": 2}, answer


@step
def a_tagged_function_is_another_one():
    path = written(HANDLER.replace("VERSION", "3"))
    function = project().set_function(path, name="greet", kind="nuclio", tag="canary", image="x/y")
    function.deploy(tag="canary")
    assert function.invoke("/", body={})["version"] == 3
    assert project().get_function("greet", sync=True).invoke("/", body={})["version"] == 2


@step
def a_broken_function_is_an_error_with_its_log():
    path = written("def handler(context, event):\n    return (\n")
    function = project().set_function(path, name="broken", kind="nuclio", image="mlrun/mlrun")
    try:
        function.deploy()
    except Exception as exc:
        return " ".join(str(exc).split())[:100]
    raise AssertionError("it was deployed")


@step
def a_bad_config_is_refused_with_the_reason():
    path = written(HANDLER.replace("VERSION", "1"))
    function = project().set_function(path, name="wrong", kind="nuclio", image="mlrun/mlrun")
    function.set_config("spec.eventTimeout", "soon")
    try:
        function.deploy()
    except Exception as exc:
        assert "eventTimeout" in str(exc), exc
        return " ".join(str(exc).split())[:160]
    raise AssertionError("it was deployed")


@step
def a_model_router_is_deployed_and_infers():
    function = project().set_function(
        written(SERVING), name="router", kind="serving", image="mlrun/mlrun"
    )
    function.set_topology("router")
    weights = os.path.join(os.environ["TRIAL_DIR"], "factor.pkl")
    with open(weights, "w") as file:
        file.write("2")
    function.add_model("m1", class_name="Doubler", model_path=weights)
    function.deploy()
    answer = function.invoke("/v2/models/m1/infer", body={"inputs": [1, 2]})
    assert answer["outputs"] == [2, 4], answer
    return function.status.address


@step
def a_flow_is_deployed_and_responds():
    for engine in ("sync", "async"):
        function = project().set_function(
            written(SERVING), name=f"flow-{engine}", kind="serving", image="mlrun/mlrun"
        )
        graph = function.set_topology("flow", engine=engine)
        last = graph.to("Add", "one").to("Add", "ten", amount=10)
        if engine == "async":
            last.respond()
        function.deploy()
        answer = function.invoke("/", body={"value": 1})
        assert answer == {"value": 12}, answer


@step
def functions_are_listed():
    names = {f["metadata"]["name"] for f in mlrun.get_run_db().list_functions(project=PROJECT)}
    assert {"greet", "router"} <= names, names


@step
def a_function_is_deleted():
    mlrun.get_run_db().delete_function("flow-sync", PROJECT)
    names = {f["metadata"]["name"] for f in mlrun.get_run_db().list_functions(project=PROJECT)}
    assert "flow-sync" not in names, names
    gone = eventually(lambda: PROJECT + "-flow-sync" not in nuclio_functions(), within_s=5)
    return (
        "gone in Nuclio, too" if gone else "still in Nuclio: this server does not delete it there"
    )


@step
def a_project_with_functions_is_not_deleted_without_cascading():
    try:
        mlrun.get_run_db().delete_project(PROJECT)
    except mlrun.errors.MLRunPreconditionFailedError as exc:
        return " ".join(str(exc).split())[:160]
    raise AssertionError("it was deleted")


@step
def a_project_is_deleted_with_its_functions():
    mlrun.get_run_db().delete_project(PROJECT, deletion_strategy="cascading")
    left = eventually(lambda: PROJECT not in mlrun.get_run_db().list_projects(format_="name_only"))
    assert left, "the project is still there"


@step
def nothing_of_it_is_left_in_nuclio():
    assert eventually(lambda: not nuclio_functions()), nuclio_functions()


sys.exit(1 if FAILED else 0)
