"""Function objects of mlrun's, sent by mlrun's own client: as a notebook would deploy them."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from stoker.cli.client import Client
from stoker.cli.failure import Failure
from stoker.nouns.extras import install

SETUP_FILE = "project_setup.py"
_DEPLOYED = ("remote", "nuclio", "serving", "application")
_WRAPPING = re.compile(
    r"error: cannot submit deploy, details: (?P<why>.*?)(, caused by: .*)?", re.S
)
"""What mlrun's client puts around the platform's own words."""
_SHOWN_LINES = 10


@dataclass(frozen=True, slots=True)
class MlrunPackage:
    """One function object, ready to be sent. ``source`` is the file to name in messages."""

    function: Any
    source: Path

    @property
    def name(self) -> str:
        """The name under which it is deployed."""
        from stoker.api.mlrun.function_object import full_name

        metadata = self.function.metadata
        return full_name(self.project, str(metadata.name), str(metadata.tag or ""))

    @property
    def project(self) -> str:
        """Its project."""
        return str(self.function.metadata.project)

    def annotations(self) -> dict[str, str]:
        """The function's annotations, to be changed in place."""
        metadata = self.function.metadata
        if metadata.annotations is None:
            metadata.annotations = {}
        found: dict[str, str] = metadata.annotations
        return found

    def send(self, client: Client) -> str:
        """Deploys it and its child functions; the number of its new revision.

        Raises:
            Failure: it cannot be deployed as it is, or a child function of its did not get ready.
        """
        with _quietly() as said:
            try:
                self.function.deploy(wait=False)
            except Exception as exc:
                told = "\n".join(said.getvalue().strip().splitlines()[-_SHOWN_LINES:])
                why = _WRAPPING.fullmatch(str(exc))
                reason = why["why"] if why else f"{type(exc).__name__}: {exc}"
                raise Failure("\n".join(filter(None, [f"{self.name}: {reason}", told]))) from exc
        return str(client.get(f"/api/functions/{self.name}")["status"]["revision"])


def point_mlrun(client: Client) -> None:
    """Points mlrun, which is not imported yet, to the platform; it logs nothing below errors."""
    os.environ |= {
        "MLRUN_DBPATH": client.url,
        "NUCLIO_DASHBOARD_URL": client.url,
        "MLRUN_IGNORE_ENV_FILE": "1",
        "MLRUN_LOG_LEVEL": os.environ.get("MLRUN_LOG_LEVEL", "ERROR"),
    }
    if client.key:
        os.environ["V3IO_ACCESS_KEY"] = client.key


def created(source: Path, project: str) -> MlrunPackage:
    """What a graph's file creates: its ``create(project)`` returns a function object.

    Raises:
        Failure: mlrun is not installed, the file cannot be run, or it creates something else.
    """
    mlrun = _mlrun(source)
    create = getattr(_module(source), "create", None)
    if not callable(create):
        raise Failure(f"{source}: must define create(project)")
    with _quietly():
        try:
            function = create(project)
        except Exception as exc:
            why = f"create({project!r}) raised {type(exc).__name__}: {exc}"
            raise Failure(f"{source}: {why}") from exc
    if not isinstance(function, mlrun.runtimes.RemoteRuntime):
        kind = type(function).__name__
        raise Failure(f"{source}: create() must return a function of mlrun, was {kind}")
    function.metadata.project = project
    return MlrunPackage(function, source)


def imported(source: Path, name: str, project: str) -> MlrunPackage:
    """A function that mlrun wrote into a YAML file.

    Raises:
        Failure: mlrun is not installed, or cannot read it.
    """
    mlrun = _mlrun(source)
    with _quietly():
        try:
            function = mlrun.import_function(str(source), project=project, new_name=name)
        except Exception as exc:
            raise Failure(f"{source}: {type(exc).__name__}: {exc}") from exc
    return MlrunPackage(function, source)


def of_object(document: dict[str, Any], name: str, project: str, source: Path) -> MlrunPackage:
    """A function object as mlrun writes it into a project's file.

    Raises:
        Failure: mlrun is not installed, or cannot read it.
    """
    mlrun = _mlrun(source)
    with _quietly():
        try:
            function = mlrun.new_function(name, project=project, runtime=document)
        except Exception as exc:
            raise Failure(f"{source}: function {name}: {type(exc).__name__}: {exc}") from exc
    function.metadata.project = project
    return MlrunPackage(function, source)


def written(source: Path, entry: dict[str, Any], project: str) -> MlrunPackage:
    """A function by its code alone, as mlrun's ``set_function(file)`` makes it.

    Args:
        source: the code.
        entry: ``name``, ``kind``, ``handler``, ``image``, ``tag``, ``requirements``.
        project: its project.

    Raises:
        Failure: mlrun is not installed, or makes no function of it.
    """
    mlrun = _mlrun(source)
    told = {key: entry[key] for key in ("kind", "handler", "image", "tag") if entry.get(key)}
    with _quietly():
        try:
            function = mlrun.code_to_function(
                str(entry.get("name") or source.stem),
                project=project,
                filename=str(source),
                requirements=entry.get("requirements"),
                **told,
            )
        except Exception as exc:
            raise Failure(f"{source}: {type(exc).__name__}: {exc}") from exc
    return MlrunPackage(function, source)


def is_graph(package: object) -> bool:
    """Whether it may call other functions when it starts."""
    return isinstance(package, MlrunPackage) and package.function.kind == "serving"


def set_up(file: Path, project: str) -> list[MlrunPackage]:
    """The functions that ``project_setup.py`` beside a project's file puts into the project.

    Those that are run rather than deployed are left out. The project itself is stored, as when
    it is loaded in a notebook; its files stay as they are.

    Raises:
        Failure: mlrun is not installed, or the project cannot be loaded.
    """
    mlrun = _mlrun(file)
    with _quietly():
        try:
            loaded = mlrun.load_project(str(file.parent), name=project, save=False)
            loaded.save_to_db()
            functions = [loaded.get_function(name) for name in loaded.get_function_names()]
        except Exception as exc:
            where = file.parent / SETUP_FILE
            raise Failure(f"{where}: {type(exc).__name__}: {exc}") from exc
    # A graph asks for its functions' URLs when it starts, so these must be there before it.
    functions.sort(key=lambda function: function.kind == "serving")
    source = file.parent / SETUP_FILE
    return [MlrunPackage(f, source) for f in functions if f.kind in _DEPLOYED]


def _mlrun(source: Path) -> ModuleType:
    try:
        with _quietly():
            import mlrun
    except ModuleNotFoundError as exc:
        raise Failure(
            f"{source} needs the mlrun extra: {exc}",
            hint=install("mlrun"),
        ) from exc
    found: ModuleType = mlrun
    return found


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Failure(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    with _quietly():
        try:
            spec.loader.exec_module(module)
        except Exception as exc:
            why = f"cannot be imported: {type(exc).__name__}: {exc}"
            raise Failure(f"{path}: {why}") from exc
    return module


@contextmanager
def _quietly() -> Iterator[io.StringIO]:
    """What mlrun prints and warns of is kept from the terminal, whose output may be JSON."""
    said = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(said):
        warnings.simplefilter("ignore")
        yield said
