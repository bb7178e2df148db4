"""A user of the unmodified mlrun SDK deploys, calls, redeploys and deletes functions."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from live_platform import Platform, eventually, platform_of_its_own
from mlrun_script import run_script

pytestmark = [pytest.mark.e2e, pytest.mark.mlrun]

ECHO = "def handler(context, event):\n    return {'v': 1, 'body': event.body or None}\n"


@pytest.fixture(scope="module")
def live() -> Iterator[Platform]:
    """A platform of the module's own, with what graphs need."""
    with platform_of_its_own() as platform:
        platform.up(zygotes=("plain", "mlrun"), devices="sim:1x16GiB")
        yield platform


@pytest.fixture
def url(live: Platform) -> str:
    assert live.endpoints is not None
    return live.endpoints.control_url


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "echo.py").write_text(ECHO)
    return tmp_path


def test_the_life_of_a_function(url: str, live: Platform, work: Path) -> None:
    facts, output = run_script(
        work,
        url,
        """
        project = mlrun.get_or_create_project("life", context="./")
        fn = project.set_function("echo.py", name="my_echo", kind="nuclio", handler="handler",
                                  image="mlrun/mlrun")
        fn.set_env("COLOUR", "blue")
        done = project.deploy_function("my_echo")
        tell(state=done.state, outputs=done.outputs, command=fn.spec.command,
             handler=fn.spec.function_handler, first=fn.invoke("/", body={"a": 1}))

        open("echo.py", "w").write("def handler(context, event):\\n    return {'v': 2}\\n")
        fn = project.set_function("echo.py", name="my-echo", kind="nuclio", handler="handler")
        project.deploy_function("my-echo")
        tell(second=fn.invoke("/"), url_after=fn.get_url())

        later = project.set_function("echo.py", name="my-echo", kind="nuclio", handler="handler",
                                     tag="v7")
        same = later.deploy(wait=False)
        tell(is_same=same is later, early=later.status.external_invocation_urls)
        tell(tagged_command=later.wait_for_deployment(), tagged=later.invoke("/"))

        db = mlrun.get_run_db()
        found = db.get_function("my-echo", "life", tag="v7")
        tell(found=found["status"]["state"], hash=found["metadata"]["hash"])
        tell(by_hash=db.get_function("my-echo", "life", hash_key=found["metadata"]["hash"])["kind"])
        listed = db.list_functions(project="life", tag="*")
        tell(tags=sorted(f["metadata"]["tag"] for f in listed))
        tell(names=[f.metadata.name for f in project.list_functions(tag="latest")])
        db.delete_function("my-echo", "life")
        tell(gone=refused(db.get_function, "my-echo", "life"))
        """,
    )
    assert facts["state"] == "ready"
    assert facts["outputs"]["name"] == "life-my-echo"
    assert facts["handler"] == "echo-nuclio:handler"
    assert facts["first"] == {"v": 1, "body": {"a": 1}}
    assert facts["second"] == {"v": 2}
    assert facts["url_after"] == facts["command"] == facts["outputs"]["endpoint"]
    assert facts["is_same"] is True
    assert facts["early"] == [facts["tagged_command"].removeprefix("http://")]
    assert facts["tagged_command"].endswith("/life-my-echo-v7/")
    assert facts["tagged"] == {"v": 2}
    assert (facts["found"], facts["by_hash"]) == ("ready", "remote")
    assert facts["tags"] == ["latest", "v7"]
    assert facts["names"] == ["my-echo"]
    assert "MLRunNotFoundError" in facts["gone"]
    for line in (
        "(info) image mlrun/mlrun is kept and has no effect here",
        "(info) building revision 1",
        "(info) revision 1 serves",
        "(info) revision 2 serves",
    ):
        assert output.count(line) >= 1, line
    assert output.count("(info) building revision 2") == 1  # no line is told twice
    listed = live.client.get(f"{url}/api/functions").json()
    assert not [name for name in listed if name.startswith("life-")]


def test_a_function_at_zero_keeps_its_url_and_wakes(url: str, live: Platform, work: Path) -> None:
    facts, _ = run_script(
        work,
        url,
        """
        import requests
        fn = mlrun.code_to_function("sleeper", project="rest", kind="nuclio", filename="echo.py",
                                    handler="handler")
        project = mlrun.get_or_create_project("rest", context="./")
        fn.spec.min_replicas = 0
        fn.deploy()
        tell(before=fn.get_url())
        path = os.environ["MLRUN_DBPATH"] + "/api/functions/rest-sleeper"
        requests.patch(path, json={"desiredState": "scaledToZero"},
                       headers={"X-Nuclio-Wait-Function-Action": "true"})
        again = mlrun.import_function("db://rest/sleeper")
        tell(asleep=mlrun.get_run_db().get_function("sleeper", "rest")["status"]["state"])
        tell(after=again.get_url(), waited=again.wait_for_deployment(timeout=20))
        tell(woken=again.invoke("/", body={"x": 1}))
        """,
    )
    assert facts["asleep"] == "scaledToZero"
    assert facts["after"] == facts["before"]
    assert facts["waited"] == facts["before"]
    assert facts["woken"]["v"] == 1


def test_graphs_and_other_kinds(url: str, work: Path) -> None:
    (work / "steps.py").write_text(
        "class Scale:\n"
        "    def __init__(self, factor=2):\n        self.factor = factor\n"
        "    def do(self, x):\n        return {'n': x['n'] * self.factor}\n"
        "def tail(x):\n    return {'tail': x}\n"
    )
    (work / "model.py").write_text(
        "import mlrun\n"
        "class Echo(mlrun.serving.V2ModelServer):\n"
        "    def load(self):\n        self.model = 1\n"
        "    def predict(self, body):\n        return body['inputs']\n"
    )
    (work / "train.py").write_text("def train(context, x=1):\n    context.log_result('y', 2 * x)\n")
    facts, _ = run_script(
        work,
        url,
        """
        project = mlrun.get_or_create_project("graphs", context="./")
        echo = project.set_function("echo.py", name="echo", kind="nuclio", handler="handler")
        project.deploy_function(echo)
        for engine in ("async", "sync"):
            fn = mlrun.code_to_function(f"flow-{engine}", kind="serving", filename="steps.py")
            flow = fn.set_topology("flow", engine=engine)
            flow = flow.to("Scale", name="scale", factor=3)
            flow = flow.to("$remote", name="remote", url="graphs/echo", method="POST")
            flow.to(name="tail", handler="tail").respond()
            project.deploy_function(fn)
            tell(**{engine: fn.invoke("/", body={"n": 4})})
        router = project.set_function("model.py", name="router", kind="serving")
        router.add_model("m1", class_name="Echo", model_path="")
        project.deploy_function(router)
        tell(models=router.invoke("/v2/models/"),
             inferred=router.invoke("/v2/models/m1/infer", body={"inputs": [1, 2]})["outputs"])
        empty = mlrun.new_function("empty", kind="serving", project="graphs")
        empty.set_topology("flow", engine="async").to(
            name="same", handler="json.dumps").respond()
        project.deploy_function(empty)
        tell(empty=empty.invoke("/", body={"a": [1]}).decode())
        named = mlrun.code_to_function("by-file", kind="nuclio", project="graphs",
                                       filename=os.path.abspath("echo.py"), handler="handler",
                                       embed_code=False)
        project.deploy_function(named)
        tell(by_file=named.invoke("/", body={"x": 1})["v"])
        job = mlrun.code_to_function("train", kind="nuclio:mlrun", project="graphs",
                                     filename="train.py", handler="train")
        project.deploy_function(job)
        tell(results=job.run(handler="train", params={"x": 3}).outputs["y"])
        """,
    )
    expected = {"tail": {"v": 1, "body": {"n": 12}}}
    assert facts["async"] == facts["sync"] == expected
    assert facts["models"] == {"models": ["m1"]}
    assert facts["inferred"] == [1, 2]
    assert facts["empty"] == '{"a": [1]}'
    assert facts["by_file"] == 1
    assert facts["results"] == 6


def sources(folder: Path) -> Path:
    """A repository, archives of zip and tar, each with the folder sub."""
    tree = folder / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "main.py").write_text("import own\ndef handler(c, e):\n    return own.NAME\n")
    (tree / "sub" / "own.py").write_text("NAME = 'found'\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for command in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "one")):
        subprocess.run(["git", *identity, *command], cwd=tree, check=True, env=env)
    subprocess.run(["git", "clone", "-q", "--bare", tree, folder / "r.git"], check=True, env=env)
    with zipfile.ZipFile(folder / "a.zip", "w") as zipped:
        for file in (tree / "sub").glob("*.py"):
            zipped.write(file, f"sub/{file.name}")
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tarred:
        tarred.add(tree / "sub", arcname="sub")
    return folder


def test_source_archives(url: str, work: Path) -> None:
    facts, output = run_script(
        sources(work),
        url,
        """
        project = mlrun.get_or_create_project("sources", context="./")
        here = os.getcwd()
        for name, source, workdir, handler in (
            ("git", f"git://{here}/r.git#main", "sub", "main:handler"),
            ("git-ref", f"git://{here}/r.git#refs/heads/main", None, "sub#main:handler"),
            ("zip", f"file://{here}/a.zip", "sub", "main:handler"),
            ("tar", f"{here}/a.tar.gz", "sub", "main:handler"),
        ):
            fn = mlrun.new_function(name, project="sources", kind="nuclio")
            fn.with_source_archive(source, workdir=workdir, handler=handler)
            fn.deploy(builder_env={"GIT_TOKEN": "hush-hush"})
            tell(**{name: fn.invoke("/").decode()})
        project.set_source(f"git://{here}/r.git#main")
        cloned = project.set_function("sub/main.py", name="cloned", kind="nuclio", image="x",
                                      with_repo=True, handler="sub#main:handler")
        project.deploy_function("cloned")
        tell(cloned=cloned.invoke("/").decode())
        fn.with_source_archive(f"git://{here}/r.git#nope", handler="main:handler")
        tell(nope=refused(fn.deploy), after=fn.invoke("/").decode())
        """,
    )
    for name in ("git", "git-ref", "zip", "tar", "cloned", "after"):
        assert facts[name] == "found", name
    assert "deployment failed" in facts["nope"]
    assert "couldn't find remote ref nope" in output
    assert "hush-hush" not in output


def test_requirements(url: str, work: Path) -> None:
    wheel = work / "stoker_greeting-1.0-py3-none-any.whl"
    info = "stoker_greeting-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("stoker_greeting.py", "TEXT = 'from a wheel'\n")
        zipped.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: stoker-greeting\nVersion: 1.0\n"
        )
        zipped.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        zipped.writestr(f"{info}/RECORD", "")
    (work / "uses.py").write_text(
        "import stoker_greeting\ndef handler(c, e):\n    return stoker_greeting.TEXT\n"
    )
    facts, output = run_script(
        work,
        url,
        f"""
        project = mlrun.get_or_create_project("needs", context="./")
        fn = mlrun.code_to_function("here", kind="nuclio", filename="echo.py", handler="handler",
                                    requirements=["mlrun", "pandas>1"])
        start = time.monotonic()
        project.deploy_function(fn)
        tell(body=fn.invoke("/")["v"])
        fn = mlrun.code_to_function("wheel", kind="nuclio", filename="uses.py", handler="handler")
        fn.with_requirements(["{wheel}"])
        project.deploy_function(fn)
        tell(wheel=fn.invoke("/").decode())
        """,
    )
    assert facts["body"] == 1
    assert "installed already: mlrun 1.12.1, pandas" in output
    assert facts["wheel"] == "from a wheel"


def test_secrets_reach_the_function_and_nobody_else(url: str, live: Platform, work: Path) -> None:
    (work / "sees.py").write_text(
        "import os, mlrun\n"
        "def handler(context, event):\n"
        "    print('it is', os.environ['MINE'])\n"
        "    found = mlrun.get_run_db().get_function('sees', 'hush')['status']\n"
        "    return {'raw': os.environ['MINE'], 'api': mlrun.get_secret_or_env('MINE'),\n"
        "            'declared': os.environ['MY_TOKEN'], 'state': found['state'],\n"
        "            'project': mlrun.mlconf.active_project}\n"
    )
    facts, _ = run_script(
        work,
        url,
        """
        project = mlrun.get_or_create_project("hush", context="./")
        project.set_secrets({"MINE": "quietquiet"})
        fn = project.set_function("sees.py", name="sees", kind="nuclio", handler="handler")
        fn.set_env("MY_TOKEN", "tokentoken")
        project.deploy_function("sees")
        tell(seen=fn.invoke("/"), listed=str(mlrun.get_run_db().list_functions(project="hush")))
        """,
    )
    assert facts["seen"] == {
        "raw": "quietquiet",
        "api": "quietquiet",
        "declared": "tokentoken",
        "state": "ready",
        "project": "hush",
    }
    logs = eventually(lambda: _log_with(live, url, "hush-sees", "it is"))
    for text in (logs, live.client.get(f"{url}/api/functions/hush-sees").text, facts["listed"]):
        assert "quietquiet" not in text
        assert "tokentoken" not in text


def _log_with(live: Platform, url: str, function: str, words: str) -> str:
    text = live.client.get(f"{url}/api/stoker/functions/{function}/logs").text
    return text if words in text else ""


def test_what_cannot_be_deployed_is_said_and_what_served_before_goes_on(
    url: str, work: Path
) -> None:
    (work / "broken.py").write_text("def handler(context, event)\n    return 1\n")
    (work / "raises.py").write_text("raise RuntimeError('not today')\n" + ECHO)
    facts, output = run_script(
        work,
        url,
        """
        project = mlrun.get_or_create_project("bad", context="./")
        def deploy(name, file, kind="nuclio", change=None):
            handler = "handler" if kind == "nuclio" else None
            fn = mlrun.code_to_function(name, kind=kind, filename=file, handler=handler)
            if change:
                change(fn)
            why = refused(project.deploy_function, fn)
            return fn, why

        echo, _ = deploy("echo", "echo.py")
        _, syntax = deploy("echo", "broken.py")
        tell(syntax=syntax, after_syntax=echo.invoke("/")["v"])
        fn, why = deploy("echo", "raises.py")
        tell(raises=why, state=fn.status.state, after_raises=echo.invoke("/")["v"])

        def flow(*steps):
            def change(fn):
                graph = fn.set_topology("flow", engine="async")
                for step in steps:
                    graph = graph.to(**step)
                graph.respond()
            return change

        def child(fn):
            fn.add_child_function("gpu", os.path.abspath("echo.py"), image="x")
            graph = fn.set_topology("flow", engine="async")
            graph.to(name="a", handler="json.loads").to(
                name="b", handler="json.dumps", function="gpu").respond()

        missing = dict(class_name="NoSuchClass", name="embed")
        fn, why = deploy("graph", "echo.py", "serving", flow(missing))
        tell(no_class=why, no_class_state=fn.status.state)
        remote = dict(class_name="$remote", name="r", url="bad/ecko")
        tell(no_remote=deploy("graph", "echo.py", "serving", flow(remote))[1])
        itself = dict(class_name="$remote", name="r", url="graph")
        tell(itself=deploy("graph", "echo.py", "serving", flow(itself))[1])
        tell(child=deploy("graph", "echo.py", "serving", child)[1])

        def eight(fn):
            fn.with_http()
            fn.with_limits(gpus=1)
            fn.set_env("STOKER_GPU_MEMORY", "4GiB")
        tell(eight=deploy("gpu", "echo.py", change=eight)[1])
        app = mlrun.new_function("app", kind="application", image="x", project="bad")
        tell(application=refused(project.deploy_function, app))
        """,
    )
    assert "SyntaxError in line 1" in facts["syntax"]
    assert facts["after_syntax"] == facts["after_raises"] == 1
    assert "deployment failed" in facts["raises"]
    assert facts["state"] in ("error", "unhealthy")
    assert "RuntimeError: not today" in output
    assert facts["no_class_state"] in ("error", "unhealthy")
    assert "step 'embed' of the graph cannot be started" in output
    assert "no function 'bad-ecko' is deployed here; near names: bad-echo" in facts["no_remote"]
    assert "the function that it is part of" in facts["itself"]
    assert "step 'b' runs in the child function 'gpu', but the step before it" in facts["child"]
    assert "8 workers of 4.0 GiB" in facts["eight"]
    assert "need 32.0 GiB on its GPU, which has 16.0 GiB" in facts["eight"]
    assert "there are no containers here" in facts["application"]


@pytest.mark.parametrize("key", ["1234567890", "0b5d7b5e-2a51-4c0c-9a5c-2f1a2f6b7a11"])
def test_a_platform_with_keys_serves_clients_and_functions_that_have_them(
    platform: Platform, work: Path, key: str
) -> None:
    """A key that looks like a session of Iguazio's is sent in another way by mlrun."""
    platform.up(zygotes=("plain", "mlrun"), control_keys=(key,), data_keys=())
    assert platform.endpoints is not None
    control = platform.endpoints.control_url
    (work / "asks.py").write_text(
        "import mlrun, nuclio.deploy, os\n"
        "def handler(context, event):\n"
        "    found = mlrun.get_run_db().get_function('asks', 'keyed')['status']['state']\n"
        "    api = nuclio.deploy.find_dashboard_url()\n"
        "    theirs = nuclio.deploy.get_deploy_status(api, 'keyed-asks')\n"
        "    print('the key is', os.environ['V3IO_ACCESS_KEY'])\n"
        "    return [found, theirs[0]]\n"
    )
    assert httpx.get(f"{control}/api/v1/client-spec").status_code == 401
    facts, _ = run_script(
        work,
        control,
        """
        project = mlrun.get_or_create_project("keyed", context="./")
        fn = project.set_function("asks.py", name="asks", kind="nuclio", handler="handler")
        project.deploy_function("asks")
        tell(seen=fn.invoke("/"))
        """,
        V3IO_ACCESS_KEY=key,
    )
    assert facts["seen"] == ["ready", "ready"]
    headers = {"X-API-Key": key}
    path = f"{control}/api/stoker/functions/keyed-asks/logs"
    text = eventually(
        lambda: found if "the key is" in (found := httpx.get(path, headers=headers).text) else ""
    )
    assert key not in text
