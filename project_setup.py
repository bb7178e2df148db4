"""Puts the project's functions together: MLRun runs this when it loads the project.

``functions/*/function.yaml`` are Nuclio's own files, so that ``nuctl`` and ``stoker deploy`` take
them too, or mlrun's where the function is a job; each becomes an mlrun function here.
``graphs/*.py`` are mlrun's: each creates its serving function. Nothing is deployed.

Only mlrun is needed to load the project. A parameter ``image`` names the image that functions run
in on a cluster: ``mlrun.load_project("./", parameters={"image": "registry/stoker:1"})``.
"""

import importlib.util
from pathlib import Path

import mlrun
import yaml

ATTRIBUTES = {
    "description": "description",
    "resources": "resources",
    "minReplicas": "min_replicas",
    "maxReplicas": "max_replicas",
    "readinessTimeoutSeconds": "readiness_timeout",
}
"""Fields of Nuclio that mlrun's functions have a place of their own for."""

CALLED = {"EMBEDDER": "text-embedder"}
"""Variables that hold the full name of a function, which begins with its project's."""


def setup(project):
    """Called by ``mlrun.load_project`` with the project of ``project.yaml``."""
    folder = Path(project.context or ".").resolve()
    for file in sorted(folder.glob("functions/*/function.yaml")):
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        create = job if config["kind"] == "job" else nuclio_function
        project.set_function(create(file.parent, config, project.name))
    for file in sorted(folder.glob("graphs/*.py")):
        project.set_function(module(file).create(project.name))
    if image := project.params.get("image"):
        project.set_default_image(image)
    return project


def job(folder, config, project):
    """A function that is run, on the client or in a pod: nothing of it is deployed."""
    spec = config["spec"]
    return mlrun.code_to_function(
        config["metadata"]["name"],
        project=project,
        kind="job",
        filename=str(folder / spec["command"]),
        handler=spec["default_handler"],
        image=spec["image"],
        description=spec["description"],
    )


def nuclio_function(folder, config, project):
    """A function that deploys as its ``function.yaml`` of Nuclio says."""
    spec = dict(config["spec"])
    handler = spec.pop("handler")
    function = mlrun.code_to_function(
        config["metadata"]["name"],
        project=project,
        kind="nuclio",
        filename=str(folder / f"{handler.partition(':')[0]}.py"),
        handler=handler,
    )
    for variable in spec.pop("env", []):
        called = CALLED.get(variable["name"])
        value = f"{project}-{called}" if called else variable["value"]
        function.set_env(variable["name"], value)
    for name, trigger in spec.pop("triggers", {}).items():
        function.set_config(f"spec.triggers.{name}", trigger)
    for field, value in spec.items():
        if field in ATTRIBUTES:
            setattr(function.spec, ATTRIBUTES[field], value)
        elif field != "runtime":
            function.set_config(f"spec.{field}", value)
    return function


def module(file):
    """A graph's file, as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
