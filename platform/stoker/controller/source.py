"""A revision's source: unpacked or copied into the home, complete before it has its final name."""

from __future__ import annotations

import base64
import binascii
import errno
import importlib.util
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stoker.nouns.errors import BadRequest, InsufficientStorage
from stoker.nouns.function import FunctionConfig

_IGNORED = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.pyc")
_NOT_FETCHED = frozenset({"s3", "image"})


def unpack(
    config: FunctionConfig,
    target: Path,
    stopped: threading.Event | None = None,
    fetched: Path | None = None,
) -> None:
    """Puts the function's source into ``target``, replacing what is there.

    Args:
        config: the function.
        target: the revision's folder.
        stopped: once set, nothing is put in place any more.
        fetched: the folder with the code of an archive or a repository, if it is one.

    Raises:
        BadRequest: the source is missing, cannot be decoded, or is of a kind that is not fetched;
            or ``stopped`` was set.
        InsufficientStorage: the disk is full.
    """
    stopped = stopped or threading.Event()
    with disk_full_is_ours():
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(".[0-9]*"):  # by a controller that was killed
            shutil.rmtree(left, ignore_errors=True)
        staging = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
        staging.mkdir()
        try:
            _fill(config, staging, stopped, fetched)
            _go_on(stopped)
            shutil.rmtree(target, ignore_errors=True)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _go_on(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise BadRequest("the build was stopped")


def _fill(
    config: FunctionConfig, staging: Path, stopped: threading.Event, fetched: Path | None
) -> None:
    build = config.spec.build
    if build.code_entry_type in _NOT_FETCHED:
        raise BadRequest(
            f"build.codeEntryType {build.code_entry_type!r} is not supported: give "
            "functionSourceCode, a path on this machine, an archive or a git repository"
        )
    if fetched is not None:
        _copy(fetched, staging, config, stopped)
    elif build.path:
        _copy(Path(build.path).expanduser(), staging, config, stopped)
    if build.function_source_code:
        module = staging / module_file(config.spec.handler)
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_bytes(_decode(build.function_source_code))


def _copy(path: Path, staging: Path, config: FunctionConfig, stopped: threading.Event) -> None:
    def copy_file(source: str, copy: str) -> str:
        _go_on(stopped)
        return shutil.copy2(source, copy)

    if not path.is_absolute():
        raise BadRequest(f"build.path must be absolute, was {str(path)!r}")
    if path.is_dir():
        shutil.copytree(
            path,
            staging,
            dirs_exist_ok=True,
            symlinks=True,
            ignore=_IGNORED,
            copy_function=copy_file,
        )
    elif path.is_file():
        module = staging / module_file(config.spec.handler)
        module.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, module)
    else:
        raise BadRequest(f"build.path must be a file or a folder that exists, was {str(path)!r}")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadRequest(f"build.functionSourceCode must be base64: {exc}") from exc


def module_file(handler: str) -> Path:
    """The file of a handler's module, below the code folder.

    >>> str(module_file("pipeline.pre-nuclio:handler"))
    'pipeline/pre-nuclio.py'
    """
    module, _, _ = handler.partition(":")
    return Path(*module.split(".")).with_suffix(".py") if module else Path("main.py")


def check_handler(config: FunctionConfig, code: Path, site: Path | None) -> None:
    """Finds the handler's module without importing it.

    Raises:
        BadRequest: neither the code, nor the function's environment, nor the platform has it.
    """
    file = module_file(config.spec.handler)
    for folder in (code, site):
        if folder is not None and _has_module(folder, file):
            return
    root = file.parts[0].removesuffix(".py")
    if len(file.parts) > 1 and not (code / root).exists():
        if importlib.util.find_spec(root) is not None:
            return
    elif not any(code.iterdir()) and importlib.util.find_spec(root) is not None:
        return
    there = sorted(str(p.relative_to(code)) for p in code.rglob("*.py"))[:10]
    raise BadRequest(
        f"handler {config.spec.handler!r}: the function's code has no module {str(file)!r}; "
        f"it has {', '.join(there) or 'no Python file'}"
    )


def _has_module(folder: Path, file: Path) -> bool:
    return (folder / file).is_file() or (folder / file.with_suffix("") / "__init__.py").is_file()


@contextmanager
def disk_full_is_ours() -> Iterator[None]:
    """Turns the file system's words into an error that people can act on.

    Raises:
        InsufficientStorage: the disk, or the quota, is full.
        BadRequest: something cannot be read or written.
    """
    try:
        yield
    except shutil.Error as exc:
        raise BadRequest(f"the code cannot be copied: {exc}") from exc
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InsufficientStorage(f"the home's disk is full: {exc}") from exc
        raise BadRequest(f"the code cannot be put in place: {exc}") from exc


def remove_revisions(folder: Path, keep: frozenset[int]) -> None:
    """Removes the code of every revision but these; the function's folder when none is kept."""
    if not folder.is_dir():
        return
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return
    names = {str(number) for number in keep}
    for child in folder.iterdir():
        if child.name not in names and not child.name.startswith("."):
            shutil.rmtree(child, ignore_errors=True)
