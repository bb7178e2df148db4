"""A function's folder as a document to deploy: as it is, as a trial, as the winner."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stoker.nouns.errors import BadRequest
from stoker.nouns.function import MLRUN_CLASS_LABEL, PROJECT_LABEL, FunctionConfig
from stoker.nouns.model_name import TRIAL_LABEL
from stoker.nouns.recording import RECORD_VARIABLE
from stoker.nouns.rollout import CANARY_ANNOTATION, CanarySpec
from stoker.nouns.settings import ModelSettings
from stoker.sdk.code_files import FUNCTION_FILES, code_files, code_section

RECIPE_ANNOTATION = "stoker.io/recipe"
"""On a function that a quality run deployed: JSON with the recipe's name and what it is made of."""
_NAME_LIMIT = 63
_CODE = frozenset({"path", "functionSourceCode", "codeEntryType", "codeEntryAttributes"})
"""What of ``spec.build`` says where the code is."""
_MODEL = frozenset(str(field.alias) for field in ModelSettings.model_fields.values())
"""The variables that make a recipe."""


@dataclass(frozen=True, slots=True)
class Package:
    """A function's folder.

    Attributes:
        document: metadata and spec, the code in ``spec.build``.
        digest: of the document's file and of all code beside it.
    """

    folder: Path
    document: dict[str, Any]
    digest: str

    @classmethod
    def read(cls, folder: Path) -> Package:
        """Reads ``function.yaml`` and the code beside it.

        Raises:
            BadRequest: it is not there, or wrong.
        """
        path = next((folder / name for name in FUNCTION_FILES if (folder / name).is_file()), None)
        if path is None:
            raise BadRequest(f"{folder} has no function.yaml: it must be a function's folder")
        try:
            document = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
            raise BadRequest(f"{path} cannot be read: {exc}") from exc
        config = FunctionConfig.parse(document)
        spec = document.setdefault("spec", {})
        build = dict(spec.get("build") or {})
        if build.get("path") and "://" not in str(build["path"]):
            build["path"] = str((folder / str(build["path"])).resolve())
        elif not build.get("path") and not build.get("functionSourceCode"):
            module = config.spec.handler.partition(":")[0]
            section = code_section(folder, module)
            if section is None:
                raise BadRequest(f"{path}: the handler's module {module!r} is not in {folder}")
            build |= section
        spec["build"] = build
        whole = hashlib.sha256(path.read_bytes())
        for file in code_files(folder):
            whole.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
        return cls(folder, document, whole.hexdigest()[:32])

    @property
    def name(self) -> str:
        """As its file names it."""
        return str(self.document["metadata"]["name"])

    @property
    def env(self) -> dict[str, str]:
        """Its own plain variables."""
        return _variables(self.document)

    @property
    def gpus(self) -> int:
        """GPUs of a replica."""
        return FunctionConfig.parse(self.document).gpus

    def trial(self, target: str, recipe: str, env: dict[str, str], project: str) -> dict[str, Any]:
        """A function of its own that runs the recipe: one replica, always, and only HTTP.

        Its other triggers are left out: it would take messages, and be due, in the real one's
        place. Nor is it recorded: what it is asked is no traffic.
        """
        document = _with(self.document, {RECORD_VARIABLE: "", **env})
        _named(document, trial_name(target, recipe), project)
        document["metadata"]["labels"][TRIAL_LABEL] = target
        # It is new: nothing serves beside which a canary could be tried.
        (document["metadata"].get("annotations") or {}).pop(CANARY_ANNOTATION, None)
        spec = document["spec"]
        triggers = spec.get("triggers") or {}
        spec["triggers"] = {
            name: one for name, one in triggers.items() if one.get("kind", "http") == "http"
        }
        spec |= {"minReplicas": 1, "maxReplicas": 1}
        return document

    def rollout(
        self,
        target: str,
        recipe: str,
        env: dict[str, str],
        project: str,
        canary: CanarySpec | None,
        over: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The function with the recipe, as it will serve.

        Args:
            target: its name.
            recipe: the recipe's name.
            env: the variables that make the recipe.
            project: that it belongs to.
            canary: how it is tried out; None switches at once.
            over: what serves now, where that has more to it than the folder knows, as a function
                that MLRun deployed has: all of it but code and model stays.
        """
        document = _with(self.document if over is None else self._over(over), env)
        _named(document, target, project)
        notes = document["metadata"].setdefault("annotations", {})
        notes[RECIPE_ANNOTATION] = json.dumps({"name": recipe, "digest": self.made_of(env)})
        notes.pop(CANARY_ANNOTATION, None)
        if canary is not None:
            notes[CANARY_ANNOTATION] = canary.model_dump_json()
        return document

    def _over(self, served: dict[str, Any]) -> dict[str, Any]:
        document = copy.deepcopy(served)
        spec, own = document["spec"], self.document["spec"]
        spec["handler"] = own["handler"]
        code = {name: value for name, value in own["build"].items() if name in _CODE}
        spec["build"] = {
            name: value for name, value in (spec.get("build") or {}).items() if name not in _CODE
        } | code
        unset = dict.fromkeys(_model_variables(document), "")
        return _with(document, unset | _model_variables(self.document))

    def made_of(self, env: dict[str, str]) -> str:
        """Names what is deployed: the folder and the recipe's variables."""
        facts = json.dumps([self.digest, sorted(env.items())])
        return hashlib.sha256(facts.encode()).hexdigest()[:32]

    def serves(self, function: dict[str, Any] | None, env: dict[str, str]) -> bool:
        """Whether a function on the platform is this folder with the recipe's variables.

        One that was deployed without a quality run is compared by what can be seen of it.
        """
        if function is None or function["status"]["state"] in ("error", "unhealthy"):
            return False
        if function["status"].get("servingRevision") != function["status"].get("revision"):
            return False
        notes = function["metadata"].get("annotations") or {}
        if RECIPE_ANNOTATION in notes:
            try:
                return bool(json.loads(notes[RECIPE_ANNOTATION])["digest"] == self.made_of(env))
            except (ValueError, KeyError, TypeError):
                return False
        own, there = _with(self.document, env), function
        source = own["spec"]["build"].get("functionSourceCode")
        return (
            source is not None
            and source == (there["spec"].get("build") or {}).get("functionSourceCode")
            and own["spec"].get("handler") == there["spec"].get("handler")
            and _variables(own).items() <= _variables(there).items()
            and _model_variables(own) == _model_variables(there)
        )


def trial_name(target: str, recipe: str) -> str:
    """The trial's name; a long target is cut, and told from others by a digest."""
    tail = f"-trial-{recipe}"
    if len(target) + len(tail) <= _NAME_LIMIT:
        return target + tail
    mark = hashlib.sha256(target.encode()).hexdigest()[:6]
    return f"{target[: _NAME_LIMIT - len(tail) - 7]}-{mark}{tail}"


def project_of(document: dict[str, Any]) -> str:
    """The project that a function belongs to."""
    labels = document["metadata"].get("labels") or {}
    return str(labels.get(PROJECT_LABEL, "default"))


def _named(document: dict[str, Any], name: str, project: str) -> None:
    metadata = document["metadata"]
    metadata["name"] = name
    metadata["labels"] = dict(metadata.get("labels") or {}) | {PROJECT_LABEL: project}


def _with(document: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    """A copy with variables over its own; an empty one takes its own away."""
    copied = copy.deepcopy(document)
    kept = [one for one in copied["spec"].get("env") or [] if one.get("name") not in env]
    told = [{"name": name, "value": value} for name, value in env.items() if value != ""]
    copied["spec"]["env"] = [*kept, *told]
    return copied


def _variables(document: dict[str, Any]) -> dict[str, str]:
    return {
        str(one["name"]): str(one["value"])
        for one in document["spec"].get("env") or []
        if "value" in one
    }


def _model_variables(document: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in _variables(document).items() if name in _MODEL}


def is_mlruns(function: dict[str, Any]) -> bool:
    """Whether MLRun deployed it."""
    return MLRUN_CLASS_LABEL in (function["metadata"].get("labels") or {})
