"""Finding, importing and initialising the user's handler."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import nuclio_sdk
from nuclio_sdk.event import TriggerInfo

from stoker.nouns.launch import WorkerLaunch
from stoker.worker.calls import GatewayPlatform
from stoker.worker.logger import WorkerLogger
from stoker.worker.neighbours import Neighbours


class HandlerError(Exception):
    """The function cannot be started as it is declared."""


class Handler(NamedTuple):
    """The user's function, initialised.

    ``is_async``: calling it gives a coroutine or an async generator, so calls may overlap.
    """

    call: Callable[[Any, Any], Any]
    context: nuclio_sdk.Context
    is_async: bool


def enter_code(launch: WorkerLaunch) -> None:
    """Make the function's folder the current one and the first place to import from."""
    here = os.getcwd()
    first = [launch.code_dir] + ([launch.site_dir] if launch.site_dir else [])
    sys.path[:] = first + [path for path in sys.path if path not in ("", here, *first)]
    os.chdir(launch.code_dir)


async def load_handler(
    launch: WorkerLaunch, logger: WorkerLogger, neighbours: Neighbours
) -> Handler:
    """Import the handler's module and run its ``init_context``.

    Raises:
        HandlerError: there is no such module or function, or it does not fit the trigger.
        Exception: whatever the module or ``init_context`` raises.
    """
    module_name, _, function_name = launch.handler.partition(":")
    module = import_handler_module(Path(launch.code_dir), module_name)
    call = _function(module, function_name)
    if launch.asynchronous and not _is_async(call):
        raise HandlerError(
            f"the trigger's mode is async, so {launch.handler} must be an async def function"
        )
    context = nuclio_sdk.Context(
        logger=logger,
        platform=GatewayPlatform(neighbours, launch.project),
        worker_id=launch.index,
        trigger=TriggerInfo(launch.trigger_kind, launch.trigger_name),
    )
    init_context = getattr(module, "init_context", None)
    if init_context is not None:
        outcome = init_context(context)
        if inspect.isawaitable(outcome):
            await outcome
    # init_context may define or replace the handler, as MLRun's footer allows.
    call = _function(module, function_name)
    return Handler(call, context, _is_async(call))


def _is_async(call: Callable[..., Any]) -> bool:
    # The second face is that of an object which is called like a function.
    faces = (call, vars(type(call)).get("__call__"))
    return any(
        inspect.iscoroutinefunction(face) or inspect.isasyncgenfunction(face) for face in faces
    )


def _function(module: ModuleType, name: str) -> Callable[[Any, Any], Any]:
    call = getattr(module, name, None)
    if call is None:
        names = sorted(
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        )
        has = f"its functions are {', '.join(names)}" if names else "it defines no function"
        raise HandlerError(f"module {module.__name__!r} has no {name!r}; {has}")
    if not callable(call):
        raise HandlerError(f"{name!r} of module {module.__name__!r} is not a function")
    found: Callable[[Any, Any], Any] = call
    return found


def import_handler_module(code_dir: Path, name: str) -> ModuleType:
    """Import the module ``name``: from the function's folder if it is there, else from anywhere.

    ``name`` may contain ``-``, and dots either as packages or as part of the file's name.

    Raises:
        HandlerError: there is no such module.
        Exception: whatever the module raises.
    """
    file = _own_file(code_dir, name)
    if file is not None and (name in sys.modules or _only_by_path(file, code_dir, name)):
        return _import_file(name, file)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise HandlerError(_missing(code_dir, name)) from exc
        raise


def _own_file(code_dir: Path, name: str) -> Path | None:
    nested = code_dir.joinpath(*name.split("."))
    for file in (nested.with_name(f"{nested.name}.py"), code_dir / f"{name}.py"):
        if file.is_file():
            return file
    return None


def _only_by_path(file: Path, code_dir: Path, name: str) -> bool:
    return "." in name and file.parent == code_dir


def _import_file(name: str, file: Path) -> ModuleType:
    """Import by path: a file with dots in its name, or one whose name something else has taken."""
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise HandlerError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # A name that is taken stays with its owner: others rely on that module.
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def _missing(code_dir: Path, name: str) -> str:
    files = sorted(path.name for path in code_dir.glob("*.py"))
    there = ", ".join(files) if files else "no Python file"
    return f"there is no module {name!r} to import the handler from; the function has {there}"
