"""Builds that break, that are stopped half way, and whose files are removed meanwhile."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stoker.controller import build as build_module
from stoker.controller.build import Builds
from stoker.controller.environment import environment
from stoker.controller.happenings import BuildFailed, Built, Happening
from stoker.controller.kind import imports_of
from stoker.controller.pip_plan import PipPlan, read_plan
from stoker.controller.source import remove_revisions, unpack
from stoker.controller.subprocesses import run_streaming
from stoker.controller.threads import to_its_end
from stoker.nouns.errors import BadRequest, InvalidFunction
from stoker.nouns.function import Build, FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.record import FunctionRecord, Revision

OLD = "def handler(context, event):\n    return 'old'\n"
NEW = "def handler(context, event):\n    return 'new'\n"


def record(code: str, **spec: Any) -> FunctionRecord:
    source = {"functionSourceCode": base64.b64encode(code.encode()).decode()}
    document = {"metadata": {"name": "fn"}, "spec": {"build": source, **spec}}
    return FunctionRecord(name="fn", candidate=Revision(number=1, document=document))


def config(code: str) -> FunctionConfig:
    candidate = record(code).candidate
    assert candidate is not None
    return candidate.config


class Reports:
    def __init__(self) -> None:
        self.events: asyncio.Queue[Happening] = asyncio.Queue()

    def builds(self, folder: Path) -> Builds:
        return Builds(Home(folder), lambda _name, _change: None, self.events.put_nowait)

    async def next(self) -> Happening:
        async with asyncio.timeout(20):
            return await self.events.get()


# What breaks a build


async def test_a_build_that_breaks_unforeseen_is_reported_and_not_building_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("never thought of")

    monkeypatch.setattr(build_module, "read_plan", broken)
    reports = Reports()
    reports.builds(tmp_path).start(record(NEW))
    assert await reports.next() == BuildFailed(
        "fn", 1, "the build broke: RuntimeError: never thought of"
    )


def test_an_unclosed_quote_in_a_requirements_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("--find-links 'http://x\nsix\n")
    with pytest.raises(BadRequest, match=r"requirements.txt: the line .* cannot be read"):
        read_plan(Build(), tmp_path)


def test_requirements_files_that_name_each_other_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n-r more.txt\n")
    (tmp_path / "more.txt").write_text("idna\n-r ./requirements.txt\n")
    assert read_plan(Build(), tmp_path).requirements == ("idna", "six")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("A", "secret\0text", "must not hold a NUL"),
        ("A\0B", "x", "must not hold a NUL"),
        ("A=B", "x", "must not hold '='"),
    ],
)
def test_an_environment_that_no_process_can_have_is_refused_when_declared(
    name: str, value: str, words: str
) -> None:
    env = [{"name": name, "value": value}]
    with pytest.raises(InvalidFunction, match=words) as refused:
        FunctionConfig.parse({"metadata": {"name": "fn"}, "spec": {"env": env}})
    assert "secret" not in str(refused.value)


# One after the other


class SlowUnpack:
    """The first unpack stands still in its thread until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self._real = unpack
        monkeypatch.setattr(build_module, "unpack", self)

    def __call__(self, *arguments: Any) -> None:
        if not self.began.is_set():
            self.began.set()
            assert self.go_on.wait(20)
        self._real(*arguments)


async def test_a_stopped_build_does_not_overwrite_the_code_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, reports = SlowUnpack(monkeypatch), Reports()
    builds = reports.builds(tmp_path)
    builds.start(record(OLD))
    assert await asyncio.to_thread(slow.began.wait, 20)
    builds.stop("fn")
    builds.clean("fn", lambda: remove_revisions(tmp_path / "functions" / "fn", frozenset()))
    builds.start(record(NEW))
    await asyncio.sleep(0)
    assert reports.events.empty()
    slow.go_on.set()
    built = await reports.next()
    assert isinstance(built, Built)
    await builds.close()
    assert (Path(built.code_dir) / "main.py").read_text() == NEW
    assert [path.name for path in Path(built.code_dir).parent.iterdir()] == ["1"]


async def test_a_removal_waits_for_the_stopped_build_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, reports = SlowUnpack(monkeypatch), Reports()
    builds, folder = reports.builds(tmp_path), tmp_path / "functions" / "fn"
    builds.start(record(OLD))
    assert await asyncio.to_thread(slow.began.wait, 20)
    builds.stop("fn")
    builds.clean("fn", lambda: remove_revisions(folder, frozenset()))
    slow.go_on.set()
    await builds.close()
    assert not folder.exists()


def test_an_unpack_that_was_stopped_puts_nothing_in_place(tmp_path: Path) -> None:
    stopped = threading.Event()
    target = tmp_path / "fn" / "1"
    unpack(config(OLD), target)
    stopped.set()
    with pytest.raises(BadRequest, match="stopped"):
        unpack(config(NEW), target, stopped)
    assert (target / "main.py").read_text() == OLD


def test_a_stopped_copy_ends_at_its_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, stopped, copied = tmp_path / "source", threading.Event(), list[Any]()
    monkeypatch.setattr("shutil.copy2", lambda *paths: copied.append(paths))
    source.mkdir()
    (source / "main.py").write_text(OLD)
    stopped.set()
    document = {"metadata": {"name": "fn"}, "spec": {"build": {"path": str(source)}}}
    with pytest.raises(BadRequest, match="stopped"):
        unpack(FunctionConfig.parse(document), tmp_path / "1", stopped)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert copied == []


async def test_a_cancelled_caller_waits_for_its_thread() -> None:
    began, stop, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert stop.wait(20)
        ended.set()

    task = asyncio.create_task(to_its_end(work, stop.set))
    assert await asyncio.to_thread(began.wait, 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert ended.is_set()


def test_a_removed_function_leaves_no_folder_whatever_lies_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "fn"
    (folder / "1").mkdir(parents=True)
    (folder / "stray").write_text("x")
    remove_revisions(folder, frozenset())
    assert not folder.exists()


# What must not stand in the way of others


def test_a_large_module_is_scanned_without_holding_the_other_threads(tmp_path: Path) -> None:
    lines = [f"def f{n}(a):\n    return [a, {{'k': a * 3}}, {n}]\n" for n in range(15_000)]
    (tmp_path / "main.py").write_text("".join(lines) + "import torch\n")
    began = time.thread_time()
    assert imports_of(tmp_path) == frozenset({"torch"})
    scanned = time.thread_time() - began
    began = time.thread_time()
    compile((tmp_path / "main.py").read_text(), "main.py", "exec", 0x400)
    assert scanned < (time.thread_time() - began) / 4


def test_imports_are_found_wherever_a_statement_may_stand(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import a.b as c, d\n"
        "x = 1; import e\n"
        "try: import f\nexcept ImportError: pass\n"
        "from g import (  # why\n    h,\n    i,\n)\n"
        "from j import k, \\\n    l\n"
        "    from m import n  # indented\n"
        "from o we get nothing\n"
        "importlib = 1\n"
    )
    assert imports_of(tmp_path) == {
        "a.b", "d", "e", "f", "g", "g.h", "g.i", "j", "j.k", "j.l", "m", "m.n",
    }  # fmt: skip


async def test_the_digest_of_local_packages_is_not_computed_on_the_loop(tmp_path: Path) -> None:
    threads: list[int] = []

    class Watched(PipPlan):
        def digest(self, code: Path) -> str:
            threads.append(threading.get_ident())
            return "d" * 24

    (tmp_path / ("d" * 24)).mkdir()
    (tmp_path / ("d" * 24) / ".finished").touch()
    await environment(tmp_path, Watched(("x",)), tmp_path, lambda _line: None)
    assert threads
    assert threading.get_ident() not in threads


# The lock of an environment


async def test_an_orphaned_installation_still_holds_its_lock(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    told = asyncio.Event()
    waits = [sys.executable, "-c", "print('on', flush=True); import time; time.sleep(100)"]
    running = asyncio.create_task(
        run_streaming(
            waits, env={}, cwd=tmp_path, tell=lambda _line: told.set(), inherited=(descriptor,)
        )
    )
    async with asyncio.timeout(20):
        await told.wait()
    # What a killed controller's end does to its own descriptor.
    os.close(descriptor)
    successor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(successor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        fcntl.flock(successor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(successor)


async def test_every_step_of_an_installation_inherits_the_environments_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks: list[bool] = []

    async def run(_command: Any, *, inherited: Any, **_: Any) -> int:
        (descriptor,) = inherited
        locks.append(os.fstat(descriptor).st_ino == (tmp_path / "envs" / lock).stat().st_ino)
        return 1 if len(locks) == 2 else 0

    plan = PipPlan(("x",))
    lock = f"{plan.digest(tmp_path)}.lock"
    site = tmp_path / "envs" / plan.digest(tmp_path)
    monkeypatch.setattr("stoker.controller.environment.run_streaming", run)
    monkeypatch.setattr("stoker.controller.environment.site_packages", lambda _folder: tmp_path)
    with pytest.raises(BadRequest):
        await environment(tmp_path / "envs", plan, tmp_path, lambda _line: None)
    assert locks == [True, True]
    assert not site.exists()
