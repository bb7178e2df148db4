"""Writing a file whole or not at all, and the folder that nobody else may enter."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stoker.nouns.errors import BadRequest, InsufficientStorage, StokerError
from stoker.nouns.home import Home

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def disk_errors(what: Path) -> Iterator[None]:
    """Turns a full disk into `InsufficientStorage`, and other refusals into `BadRequest`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage(
                f"the disk is full: {what} could not be written ({error.strerror})"
            ) from error
        raise BadRequest(f"{what}: {error.strerror or error}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Replaces ``path`` (mode 0600) in one step: a reader sees the old content or the new.

    Raises:
        InsufficientStorage: the disk is full; what was there is untouched.
        BadRequest: the system refuses for another reason.
    """
    with disk_errors(path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise


def write_json(path: Path, document: Any) -> None:
    """`write_whole` of a JSON document."""
    write_whole(path, json.dumps(document, indent=1).encode() + b"\n")


def read_json(path: Path) -> Any | None:
    """The document, or None when there is none (or, after a crash of the disk, no whole one)."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def make_home(home: Home) -> str:
    """Makes the home (0700) and its folders; its id.

    Raises:
        BadRequest: the folder belongs to somebody else, or others may write to it.
        InsufficientStorage: the disk is full.
    """
    with disk_errors(home.root):
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_strangers(home.root)
    for folder in (home.run, home.workers, home.redis_data, home.logs):
        with disk_errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
    return _id(home)


def _refuse_strangers(root: Path) -> None:
    found = root.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise BadRequest(f"the home must be a folder: {root}")
    if found.st_uid != os.geteuid():
        raise BadRequest(
            f"the home belongs to user {found.st_uid}, not to you ({os.geteuid()}): {root}; "
            "choose another with --home"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        raise BadRequest(
            f"others may write to the home (mode {mode:04o}), and what lies in it is run as code: "
            f"{root}; make it yours alone with: chmod 700 {root}"
        )
    if mode & 0o077:
        root.chmod(0o700)


def _id(home: Home) -> str:
    try:
        known = home.id_file.read_text("utf-8").strip()
    except FileNotFoundError:
        known = ""
    if not known:
        known = secrets.token_hex(8)
        write_whole(home.id_file, known.encode() + b"\n")
    return known


def tail(path: Path, *, most: int = 4000) -> str:
    """The last ``most`` bytes of a log, as text, from the start of a line."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - most))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return text if end <= most else text.partition("\n")[2]


def first_line_of(error: BaseException) -> str:
    """What to tell people: our own message, or the type and message of what went wrong."""
    if isinstance(error, StokerError):
        return error.message
    return f"{type(error).__name__}: {error}"
