"""Code from archives and repositories: fetched, unpacked inside its own folder, and cleaned up."""

from __future__ import annotations

import base64
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stoker.controller import archive
from stoker.controller.archive import fetch_archive
from stoker.controller.fetched import fetched
from stoker.controller.git_source import fetch_git
from stoker.nouns.errors import BadRequest
from stoker.nouns.parts import Build

FILES = {"main.py": "x = 1\n", "sub/mod.py": "y = 2\n", "sub/deep/z.txt": "z\n"}
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


def zipped(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return path


def tarred(path: Path, files: dict[str, str], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            file.addfile(member, io.BytesIO(text.encode()))
        for member in more:
            file.addfile(member)
    return path


def linked(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def get(path: Path | str, folder: Path, **headers: str) -> None:
    url = path if isinstance(path, str) else path.as_uri()
    fetch_archive(url, headers, folder, threading.Event())


def found(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Archives


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_archive_is_unpacked_whatever_its_name_says(
    tmp_path: Path, folder: Path, make: Callable[..., Path]
) -> None:
    get(make(tmp_path / "with space.bin", FILES), folder)
    assert found(folder) == FILES


@pytest.mark.parametrize(
    "name", ["../evil.py", "/evil.py", "sub/../../evil.py", "..\\evil.py", "C:/evil.py"]
)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_member_that_leads_outside_is_refused(
    tmp_path: Path, folder: Path, make: Callable[..., Path], name: str
) -> None:
    with pytest.raises(BadRequest, match="a member outside its own folder"):
        get(make(tmp_path / "a", {name: "bad"}), folder)
    assert not list(tmp_path.rglob("evil.py"))


@pytest.mark.parametrize(
    "member",
    [
        linked("link", "/etc/passwd"),
        linked("link", "../../secret"),
        linked("link", "/etc/passwd", tarfile.LNKTYPE),
        linked("device", "", tarfile.CHRTYPE),
    ],
)
def test_a_link_or_a_device_that_leads_outside_is_refused(
    tmp_path: Path, folder: Path, member: tarfile.TarInfo
) -> None:
    with pytest.raises(BadRequest, match="cannot be unpacked"):
        get(tarred(tmp_path / "a", FILES, member), folder)


def test_what_would_fill_the_disk_is_refused_before_it_does(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LARGEST_UNPACKED_BYTES", 10)
    for make in (zipped, tarred):
        with pytest.raises(BadRequest, match="unpacks to over 10 B"):
            get(make(tmp_path / "a", {"a": "x" * 6, "b": "y" * 6}), folder)
        assert sum(len(text) for text in found(folder).values()) <= 10
    monkeypatch.setattr(archive, "MOST_MEMBERS", 1)
    with pytest.raises(BadRequest, match="over 1 members"):
        get(zipped(tmp_path / "b", {"a": "", "b": ""}), folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "is neither a zip nor a tar archive"),
        (b"", "is neither a zip nor a tar archive"),
        (None, "does not exist on the platform's machine"),
    ],
)
def test_what_is_no_archive_is_named(
    tmp_path: Path, folder: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadRequest, match=words):
        get(tmp_path / "a.zip", folder)


def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, folder: Path) -> None:
    whole = tarred(tmp_path / "a.tgz", {"a": os.urandom(40_000).hex()}).read_bytes()
    (tmp_path / "a.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadRequest, match="cannot be unpacked"):
        get(tmp_path / "a.tgz", folder)


class Handler(http.server.SimpleHTTPRequestHandler):
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("X-V3io-Session-Key"))
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    root = tmp_path / "www"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(root))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_archive_is_fetched_by_http_with_the_headers_it_needs(
    tmp_path: Path, folder: Path, served: str
) -> None:
    tarred(tmp_path / "www" / "a.tar.gz", FILES)
    Handler.seen.clear()
    get(f"{served}/a.tar.gz", folder, **{"X-V3io-Session-Key": "k"})
    assert found(folder) == FILES
    assert Handler.seen == ["k"]
    # No download is left.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "www"]


def test_an_archive_that_cannot_be_fetched_is_named_without_its_password(
    folder: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadRequest, match="was answered with 404"):
        get(f"{served}/none.zip", folder)
    with pytest.raises(BadRequest, match=r"http://127.0.0.1:1/a.zip cannot be fetched") as refusal:
        get("http://me:hushhush@127.0.0.1:1/a.zip", folder)
    assert "hushhush" not in refusal.value.message
    with pytest.raises(BadRequest, match="is read by http, https or file"):
        get("ftp://127.0.0.1/a.zip", folder)


def test_an_endless_download_is_ended(
    tmp_path: Path, folder: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LARGEST_BYTES", 100)
    (tmp_path / "www" / "a.zip").write_bytes(b"x" * 1000)
    with pytest.raises(BadRequest, match="is over 100 B"):
        get(f"{served}/a.zip", folder)
    assert not list(tmp_path.glob("*.archive"))


def test_a_stopped_build_unpacks_nothing_more(tmp_path: Path, folder: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(BadRequest, match="the build was stopped"):
        fetch_archive(zipped(tmp_path / "a", FILES).as_uri(), {}, folder, stopped)
    assert found(folder) == {}


# Repositories


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, str]:
    """A bare repository with a history, the branches main and dev: its URL, main's first commit."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    git(tree, "init", "-q", "-b", "main")
    (tree / "sub" / "main.py").write_text("first\n")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "1")
    first = git(tree, "rev-parse", "HEAD")
    (tree / "sub" / "main.py").write_text("second\n")
    git(tree, "commit", "-qam", "2")
    git(tree, "checkout", "-qb", "dev")
    (tree / "sub" / "main.py").write_text("of dev\n")
    git(tree, "commit", "-qam", "3")
    git(tree, "checkout", "-q", "main")
    bare = tmp_path / "r.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(tree), str(bare)], check=True)
    return bare.as_uri(), first


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"branch": "main"}, "second\n"),
        ({"branch": "dev"}, "of dev\n"),
        ({"reference": "refs/heads/dev"}, "of dev\n"),
        ({}, "second\n"),
    ],
)
async def test_a_branch_is_fetched_without_its_history(
    folder: Path, repository: tuple[str, str], attributes: dict[str, str], text: str
) -> None:
    lines: list[str] = []
    await fetch_git(repository[0], attributes, folder, lines.append)
    assert found(folder) == {"sub/main.py": text}
    assert lines[0].startswith("git: fetching ")


async def test_a_commit_is_fetched_by_its_hash(folder: Path, repository: tuple[str, str]) -> None:
    url, commit = repository
    await fetch_git(url, {"branch": commit}, folder, lambda _: None)
    assert found(folder) == {"sub/main.py": "first\n"}


async def test_a_branch_that_is_not_there_is_named(
    folder: Path, repository: tuple[str, str]
) -> None:
    with pytest.raises(BadRequest, match=r"nope of file:.* cannot be fetched .*nope"):
        await fetch_git(repository[0], {"branch": "nope"}, folder, lambda _: None)


@pytest.mark.parametrize(
    ("url", "branch"),
    [
        ("ext::sh -c touch% evil", "main"),
        ("--upload-pack=touch evil", "main"),
        ("/nowhere", "--output=x"),
    ],
)
async def test_a_url_or_a_branch_runs_no_command(folder: Path, url: str, branch: str) -> None:
    with pytest.raises(BadRequest):
        await fetch_git(url, {"branch": branch}, folder, lambda _: None)
    assert found(folder / "evil") == {}
    assert not (folder / "evil").exists()


async def test_a_token_is_neither_in_the_arguments_nor_in_the_log(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git that tells what it was given stands in for the real one."""
    tools = tmp_path / "bin"
    tools.mkdir()
    fake = tools / "git"
    fake.write_text('#!/bin/sh\necho "args $*"\nenv | grep ^GIT_CONFIG_\necho token hushhush\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    lines: list[str] = []
    attributes = {"branch": "main", "username": "oauth2", "password": "hushhush"}
    await fetch_git("https://h/r.git", attributes, folder, lines.append)
    text = "\n".join(lines)
    assert "hushhush" not in text
    assert "token ********" in text
    assert base64.b64encode(b"oauth2:hushhush").decode() not in text
    # It was in the environment, for this host alone.
    assert "=Authorization: Basic ********" in text
    assert "=http.https://h/.extraHeader" in text


async def test_without_git_a_repository_is_refused_in_plain_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BadRequest, match="git, which is not installed here"):
        await fetch_git("https://h/r.git", {}, folder, lambda _: None)


# For a build


def build(**fields: Any) -> Build:
    return Build.model_validate(fields)


async def test_a_build_sees_the_folder_that_it_asked_for_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    beside = tmp_path / "fn"
    (beside / ".fetch-old").mkdir(parents=True)
    (beside / ".fetch-old.archive").write_text("half of it")
    source = build(
        codeEntryType="archive",
        path=zipped(tmp_path / "a.zip", FILES).as_uri(),
        codeEntryAttributes={"workDir": "/sub/"},
    )
    async with fetched(source, beside, lambda _: None, threading.Event()) as folder:
        assert folder is not None
        assert found(folder) == {"mod.py": "y = 2\n", "deep/z.txt": "z\n"}
    assert list(beside.iterdir()) == []


@pytest.mark.parametrize(
    ("workdir", "words"),
    [("nah", "has no folder 'nah'; it has main.py, sub"), ("../..", "must lie inside the source")],
)
async def test_a_workdir_must_be_a_folder_of_the_source(
    tmp_path: Path, workdir: str, words: str
) -> None:
    source = build(
        codeEntryType="archive",
        path=zipped(tmp_path / "a.zip", FILES).as_uri(),
        codeEntryAttributes={"workDir": workdir},
    )
    with pytest.raises(BadRequest, match=words):
        async with fetched(source, tmp_path / "fn", lambda _: None, threading.Event()):
            pass
    assert list((tmp_path / "fn").iterdir()) == []


async def test_inline_code_and_folders_are_not_fetched(tmp_path: Path) -> None:
    for source in (build(functionSourceCode="eA=="), build(path="/srv/code")):
        async with fetched(source, tmp_path / "fn", lambda _: None, threading.Event()) as folder:
            assert folder is None
    with pytest.raises(BadRequest, match="must say where the git is"):
        async with fetched(
            build(codeEntryType="git"), tmp_path / "fn", lambda _: None, threading.Event()
        ):
            pass
