"""Builds: source, handler, pip's plan, environments."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import pytest

from stoker.controller.build import Builds
from stoker.controller.environment import environment
from stoker.controller.happenings import BuildFailed, Built, Happening
from stoker.controller.kind import choose_kind, imports_of
from stoker.controller.pip_plan import PipPlan, read_plan
from stoker.controller.source import check_handler, remove_revisions, unpack
from stoker.controller.subprocesses import run_streaming
from stoker.nouns.errors import BadRequest
from stoker.nouns.function import Build, FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.launch import WorkerLaunch, ZygoteKind
from stoker.nouns.record import FunctionRecord, LogEntry, ModelBytes, Revision

CODE = "def handler(context, event):\n    return 'x'\n"


def config(**spec: Any) -> FunctionConfig:
    return FunctionConfig.parse({"metadata": {"name": "fn"}, "spec": spec})


def encoded(code: str = CODE) -> str:
    return base64.b64encode(code.encode()).decode()


def test_source_code_gets_the_name_of_the_handlers_module(tmp_path: Path) -> None:
    unpack(
        config(handler="pre-nuclio:handler", build={"functionSourceCode": encoded()}),
        tmp_path / "fn" / "1",
    )
    assert (tmp_path / "fn" / "1" / "pre-nuclio.py").read_text() == CODE


def test_a_module_in_a_package_is_unpacked_into_its_folder(tmp_path: Path) -> None:
    unpack(config(handler="a.b:h", build={"functionSourceCode": encoded()}), tmp_path / "1")
    assert (tmp_path / "1" / "a" / "b.py").is_file()


def test_a_folder_is_copied_without_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "src" / ".git").mkdir(parents=True)
    (tmp_path / "src" / "main.py").write_text(CODE)
    unpack(config(build={"path": str(tmp_path / "src")}), tmp_path / "1")
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["main.py"]


def test_what_a_killed_controller_left_half_unpacked_goes(tmp_path: Path) -> None:
    (tmp_path / "fn" / ".1-0a1b2c3d").mkdir(parents=True)
    unpack(config(build={"functionSourceCode": encoded()}), tmp_path / "fn" / "2")
    assert [path.name for path in (tmp_path / "fn").iterdir()] == ["2"]


async def test_a_failure_that_names_a_file_in_no_unicode_can_be_written(tmp_path: Path) -> None:
    """The write of it failed and took the controller along, which began the build anew."""
    source = tmp_path / "src"
    source.mkdir()
    (source / os.fsdecode(b"caf\xe9.py")).write_text(CODE)
    document = {
        "metadata": {"name": "fn"},
        "spec": {"handler": "main:handler", "build": {"path": str(source)}},
    }
    record = FunctionRecord(name="fn", candidate=Revision(number=1, document=document))
    happened: asyncio.Queue[Happening] = asyncio.Queue()
    builds = Builds(Home(tmp_path / "home"), lambda _name, _change: None, happened.put_nowait)
    builds.start(record)
    async with asyncio.timeout(20):
        failed = await happened.get()
    await builds.close()
    assert isinstance(failed, BuildFailed)
    assert "it has caf\\udce9.py" in failed.message
    line = LogEntry(time=1.0, message=os.fsdecode(b"caf\xe9.py"))
    failed_record = record.model_copy(update={"message": failed.message, "logs": (line,)})
    assert FunctionRecord.model_validate_json(failed_record.model_dump_json()) == failed_record


def test_a_rebuild_replaces_the_code_and_leaves_no_other_files(tmp_path: Path) -> None:
    target = tmp_path / "fn" / "1"
    unpack(config(handler="old:h", build={"functionSourceCode": encoded()}), target)
    unpack(config(handler="new:h", build={"functionSourceCode": encoded()}), target)
    assert [path.name for path in (tmp_path / "fn").iterdir()] == ["1"]
    assert [path.name for path in target.iterdir()] == ["new.py"]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ({"path": "/nowhere"}, "must be a file or a folder that exists, was '/nowhere'"),
        ({"path": "relative"}, "must be absolute, was 'relative'"),
        ({"functionSourceCode": "%%%"}, "must be base64"),
        ({"codeEntryType": "s3", "path": "x"}, "'s3' is not supported"),
    ],
)
def test_source_that_cannot_be_had_is_named(
    tmp_path: Path, build: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        unpack(config(build=build), tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_handler_module_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(CODE)
    with pytest.raises(BadRequest, match=r"no module 'main.py'; it has other.py"):
        check_handler(config(), tmp_path, None)


def test_a_handler_of_an_installed_package_needs_no_code(tmp_path: Path) -> None:
    check_handler(config(handler="stoker.nouns.errors:x"), tmp_path, None)


def test_only_kept_revisions_stay_on_disk(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / "fn" / str(number)).mkdir(parents=True)
    remove_revisions(tmp_path / "fn", frozenset({2}))
    assert [path.name for path in (tmp_path / "fn").iterdir()] == ["2"]
    remove_revisions(tmp_path / "fn", frozenset())
    assert not (tmp_path / "fn").exists()


# What pip is asked


def test_requirements_come_from_all_three_places_once(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# mine\nNumPy == 2.0  # arrays\n-i http://p/\n")
    build = Build(
        commands=["pip install -q numpy==2.0 'Foo_Bar>=1'", "python3 -m pip install x"],
        requirements=["x"],
    )
    plan = read_plan(build, tmp_path)
    assert plan.requirements == ("foo-bar>=1", "numpy==2.0", "x")
    assert plan.options == ("-i", "http://p/")


@pytest.mark.parametrize(
    "command",
    [
        "apt-get install -y curl",
        "pip uninstall x",
        "curl http://x | sh",
        "pip install --target /etc x",
        "pip install --prefix=/usr x",
        "pip install 'unclosed",
        "",
    ],
)
def test_build_commands_other_than_pip_install_are_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(BadRequest, match=r"not supported|cannot be read"):
        read_plan(Build(commands=[command]), tmp_path)


def test_a_changed_local_package_is_another_environment(tmp_path: Path) -> None:
    plan = PipPlan(("./package",))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_text("1")
    before = plan.digest(tmp_path)
    (tmp_path / "package" / "a.py").write_text("2")
    assert plan.digest(tmp_path) != before


def test_the_order_of_requirements_makes_no_other_environment(tmp_path: Path) -> None:
    one = read_plan(Build(requirements=["B", "a"]), tmp_path)
    other = read_plan(Build(requirements=["a", "b"]), tmp_path)
    assert one.digest(tmp_path) == other.digest(tmp_path)


def local_package(folder: Path, name: str = "stoker-probe") -> Path:
    folder.mkdir(parents=True)
    (folder / "stoker_probe.py").write_text("VALUE = 7\n")
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n[tool.setuptools]\n'
        'py-modules = ["stoker_probe"]\n'
    )
    return folder


LOCAL = ("--no-index", "--no-build-isolation", "--no-deps")


async def test_two_builds_of_one_environment_install_once(tmp_path: Path) -> None:
    local_package(tmp_path / "code" / "package")
    plan = PipPlan(("./package",), LOCAL)
    lines: list[str] = []
    sites = await asyncio.gather(
        *(environment(tmp_path / "envs", plan, tmp_path / "code", lines.append) for _ in "ab")
    )
    assert sites[0] == sites[1]
    assert (sites[0] / "stoker_probe.py").is_file()
    assert sum("installing" in line for line in lines) == 1
    assert sum("reused" in line for line in lines) == 1


async def test_a_failed_install_leaves_no_environment_and_tells_why(tmp_path: Path) -> None:
    plan = PipPlan(("no-such-package-at-all",), ("--no-index",))
    (tmp_path / "code").mkdir()
    lines: list[str] = []
    with pytest.raises(BadRequest, match=r"pip install failed .*No matching distribution"):
        await environment(tmp_path / "envs", plan, tmp_path / "code", lines.append)
    assert [path.suffix for path in (tmp_path / "envs").iterdir()] == [".lock"]
    assert lines


async def test_a_cancelled_build_step_leaves_no_process(tmp_path: Path) -> None:
    lines: list[str] = []
    running = asyncio.create_task(
        run_streaming(
            ["sh", "-c", "echo $$; exec sleep 100"], env={}, cwd=tmp_path, tell=lines.append
        )
    )
    async with asyncio.timeout(10):
        while not lines:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not Path(f"/proc/{lines[0]}").exists()


# The whole build


class Reports:
    def __init__(self) -> None:
        self.events: list[Happening] = []
        self.some = asyncio.Event()
        self.record: FunctionRecord | None = None

    def report(self, event: Happening) -> None:
        self.events.append(event)
        self.some.set()

    def change(self, name: str, change: Any) -> None:
        assert self.record is not None
        self.record = change(self.record)


async def build(tmp_path: Path, **spec: Any) -> tuple[Happening, str]:
    reports = Reports()
    document = {"metadata": {"name": "fn"}, "spec": spec}
    reports.record = FunctionRecord(name="fn", candidate=Revision(number=4, document=document))
    builds = Builds(Home(tmp_path), reports.change, reports.report)
    builds.start(reports.record)
    async with asyncio.timeout(60):
        await reports.some.wait()
    return reports.events[0], "\n".join(entry.message for entry in reports.record.logs)


async def test_a_build_answers_with_the_place_of_the_code(tmp_path: Path) -> None:
    event, log = await build(
        tmp_path, runtime="python:3.9", build={"functionSourceCode": encoded()}
    )
    assert event == Built("fn", 4, str(tmp_path / "functions" / "fn" / "4"), None)
    assert "runtime python:3.9 asked for: this home runs Python 3." in log


async def test_a_refused_command_fails_the_build_with_its_words(tmp_path: Path) -> None:
    event, _ = await build(
        tmp_path, build={"functionSourceCode": encoded(), "commands": ["apt-get update"]}
    )
    assert isinstance(event, BuildFailed)
    assert "'apt-get update' is not supported" in event.message


async def test_serving_no_model_is_refused_before_a_worker_starts(tmp_path: Path) -> None:
    """It was built, and each worker ended in a traceback."""
    event, _ = await build(tmp_path, handler="stoker.models.serve:handler")
    assert isinstance(event, BuildFailed)
    assert "serves the model that STOKER_MODEL declares, which is not set" in event.message


async def test_a_disk_that_is_full_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    event, _ = await build(tmp_path, build={"functionSourceCode": encoded()})
    assert isinstance(event, BuildFailed)
    assert "disk is full" in event.message


# Which zygote


def launch(code: str, tmp_path: Path, handler: str = "main:h", **env: str) -> WorkerLaunch:
    (tmp_path / "main.py").write_text(code)
    return WorkerLaunch(
        function="fn", revision=1, replica="r", index=0, socket="s", log="l",
        code_dir=str(tmp_path), handler=handler, env=env,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "env", "kind"),
    [
        ("import json", {}, ZygoteKind.PLAIN),
        ("import torch.nn as nn", {}, ZygoteKind.TORCH),
        ("from transformers import AutoModel", {}, ZygoteKind.TORCH),
        ("def h():\n    import onnxruntime", {}, ZygoteKind.TORCH),
        ("from stoker.sdk import load_model", {}, ZygoteKind.TORCH),
        ("from stoker.sdk import call", {}, ZygoteKind.PLAIN),
        ("", {"STOKER_MODEL": "package://x/y"}, ZygoteKind.TORCH),
        ("import mlrun", {}, ZygoteKind.MLRUN),
        ("", {"SERVING_SPEC_ENV": "{}"}, ZygoteKind.MLRUN),
        ("import torch", {"STOKER_ZYGOTE": "plain"}, ZygoteKind.PLAIN),
        ("this is no python", {}, ZygoteKind.PLAIN),
        ("import torchmetrics_lookalike", {}, ZygoteKind.PLAIN),
    ],
)
def test_a_function_is_forked_from_what_it_would_import(
    tmp_path: Path, code: str, env: dict[str, str], kind: ZygoteKind
) -> None:
    assert choose_kind(launch(code, tmp_path, **env)) is kind


def test_an_mlrun_wrapper_needs_no_code_of_its_own(tmp_path: Path) -> None:
    handler = "mlrun.serving.serving_wrapper:handler"
    assert choose_kind(launch("", tmp_path, handler)) is ZygoteKind.MLRUN


def test_relative_imports_are_the_functions_own_business(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("from . import torch\nfrom .torch import x\n")
    assert imports_of(tmp_path) == frozenset()


@pytest.mark.parametrize("told", [True, False])
async def test_a_build_tells_the_bytes_of_the_model_that_it_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    async def prepare(command: list[str], *, env: dict[str, str], **_: Any) -> int:
        assert env["CUDA_VISIBLE_DEVICES"] == "", "a build is in no ledger of bytes"
        if told:
            Path(env["STOKER_PREPARE_REPORT"]).write_text('{"key": "k", "weights": 7}')
        return 0

    monkeypatch.setattr("stoker.controller.build.run_streaming", prepare)
    spec = {
        "build": {"functionSourceCode": encoded()},
        "env": [{"name": "STOKER_MODEL", "value": "/models/some"}],
    }
    outcome, _ = await build(tmp_path, **spec)
    assert isinstance(outcome, Built)
    assert outcome.model == (ModelBytes(key="k", weights=7) if told else None)
    assert not list(tmp_path.rglob("*.model.json"))


@pytest.mark.parametrize(
    ("status", "lines", "why", "told"),
    [
        (
            1, ["reading", "error: no folder"],
            "the model cannot be prepared: no folder", ["reading"],
        ),
        (
            -9, ["reading", "exporting"],
            "the model cannot be prepared (exit code -9): exporting", ["reading", "exporting"],
        ),
        (
            1, ["error: passing", "KeyError: 'x'"],
            "the model cannot be prepared (exit code 1): KeyError: 'x'",
            ["error: passing", "KeyError: 'x'"],
        ),
    ],
)  # fmt: skip
async def test_why_a_model_cannot_be_prepared_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    status: int, lines: list[str], why: str, told: list[str],
) -> None:  # fmt: skip
    """It stood in the log as the step's own last line, and again as what the build failed of."""

    async def prepare(_command: list[str], *, tell: Any, **_: Any) -> int:
        for line in lines:
            tell(line)
        return status

    monkeypatch.setattr("stoker.controller.build.run_streaming", prepare)
    spec = {
        "build": {"functionSourceCode": encoded()},
        "env": [{"name": "STOKER_MODEL", "value": "/models/some"}],
    }
    outcome, log = await build(tmp_path, **spec)
    assert outcome == BuildFailed("fn", 4, why)
    assert log.splitlines() == told
