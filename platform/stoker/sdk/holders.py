"""What holds a function's declaration until it is deployed: a client's object, or a plain config.

Each holder shows its declaration as the Nuclio config that it deploys as, and takes edits to the
places where its own client keeps them. Objects are known by what they have, not by their class:
neither mlrun nor nuclio-jupyter is imported.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Protocol

from stoker.nouns.errors import InvalidFunction
from stoker.sdk import dotted
from stoker.sdk.dotted import Path

MLRUN_KINDS = frozenset({"remote", "nuclio", "serving"})
_TAKES = (
    "an mlrun function of kind nuclio or serving, a nuclio.ConfigSpec, or a Nuclio config as a "
    "dict with spec"
)
_ATTRIBUTES: dict[Path, str] = {
    ("spec", "resources"): "resources",
    ("spec", "replicas"): "replicas",
    ("spec", "minReplicas"): "min_replicas",
    ("spec", "maxReplicas"): "max_replicas",
    ("spec", "readinessTimeoutSeconds"): "readiness_timeout",
}
"""Of an mlrun function's spec: they win over its dotted keys when the function is deployed."""


@dataclass(frozen=True)
class Edits:
    """What to change.

    Attributes:
        fields: what shall stand at these places of the Nuclio config; None removes it.
        env: variables to set.
    """

    fields: dict[Path, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


class Holder(Protocol):
    """A declaration that can be read as a Nuclio config, and edited."""

    def document(self) -> dict[str, Any]:
        """A copy of the Nuclio config; variables whose value comes from a secret are left out."""
        ...

    def write(self, edits: Edits) -> None:
        """Makes the edits."""
        ...


def holder_of(held: Any) -> Holder:
    """The holder for an object.

    Raises:
        InvalidFunction: it is nothing that declares a function, or of a kind that has no workers.
    """
    if isinstance(held, dict):
        return ConfigDict(_with_spec(held))
    if hasattr(held, "extra_config") and isinstance(getattr(held, "env", None), dict):
        return NuclioConfigSpec(held)
    kind = getattr(held, "kind", None)
    if hasattr(held, "spec") and hasattr(held, "set_env") and isinstance(kind, str):
        if kind in MLRUN_KINDS:
            return MlrunFunction(held)
        raise _refused(f"must be {_TAKES}, was an mlrun function of kind {kind!r}")
    raise _refused(f"must be {_TAKES}, was {type(held).__name__}")


def _with_spec(config: dict[str, Any]) -> dict[str, Any]:
    if isinstance(config.get("spec"), dict):
        return config
    if any(str(key).startswith("spec.") for key in config):
        raise _refused(
            "is a map of dotted keys, which has no place for variables: give the "
            "nuclio.ConfigSpec(config=…) that it is for"
        )
    raise _refused(f"must be {_TAKES}, was a dict of {', '.join(map(str, config)) or 'nothing'}")


def _refused(message: str) -> InvalidFunction:
    return InvalidFunction(
        f"function: {message}", fields=[{"field": "function", "message": message}]
    )


@dataclass(frozen=True)
class MlrunFunction:
    """A real-time function of mlrun: dotted keys in ``spec.config``, the rest in attributes."""

    function: Any

    def document(self) -> dict[str, Any]:
        """What MLRun's server makes of it, as far as it is declared here."""
        spec = self.function.spec
        found = dotted.expanded(spec.config or {}, getattr(spec, "base_spec", None))
        for path, name in _ATTRIBUTES.items():
            value = getattr(spec, name, None)
            if value is not None:
                dotted.put(found, path, copy.deepcopy(value))
        base = dotted.get(found, ("spec", "env")) or []
        own = [_variable(one) for one in spec.env or []]
        dotted.put(found, ("spec", "env"), [*base, *(one for one in own if one)])
        return found

    def write(self, edits: Edits) -> None:
        """By the attribute where there is one: mlrun's constructor would turn a 0 into a 1."""
        spec = self.function.spec
        config = spec.config or {}
        for path, value in edits.fields.items():
            if path in _ATTRIBUTES:
                setattr(spec, _ATTRIBUTES[path], value)
            else:
                config = dotted.folded(config, path, value)
        spec.config = config
        for name, value in edits.env.items():
            self.function.set_env(name, value)


@dataclass(frozen=True)
class NuclioConfigSpec:
    """What nuclio-jupyter's ``deploy_file(spec=…)`` takes: dotted keys and variables."""

    spec: Any

    def document(self) -> dict[str, Any]:
        """What it adds to a function's config."""
        found = dotted.expanded(self.spec.extra_config)
        base = dotted.get(found, ("spec", "env")) or []
        own = [{"name": name, "value": value} for name, value in self.spec.env.items()]
        dotted.put(found, ("spec", "env"), [*base, *own])
        return found

    def write(self, edits: Edits) -> None:
        """Into its dotted keys and its variables."""
        for path, value in edits.fields.items():
            self.spec.extra_config = dotted.folded(self.spec.extra_config, path, value)
        self.spec.env.update(edits.env)


@dataclass(frozen=True)
class ConfigDict:
    """A whole Nuclio config, as ``function.yaml`` has it."""

    config: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """A copy of it."""
        found = copy.deepcopy(self.config)
        own = [_variable(one) for one in found["spec"].get("env") or []]
        found["spec"]["env"] = [one for one in own if one]
        return found

    def write(self, edits: Edits) -> None:
        """In place."""
        for path, value in edits.fields.items():
            if value is None:
                dotted.drop(self.config, path)
            else:
                dotted.put(self.config, path, value)
        if edits.env:
            spec = self.config["spec"]
            kept = [one for one in spec.get("env") or [] if _name(one) not in edits.env]
            added = [{"name": name, "value": value} for name, value in edits.env.items()]
            spec["env"] = [*kept, *added]


def _name(variable: Any) -> Any:
    return variable.get("name") if isinstance(variable, dict) else getattr(variable, "name", None)


def _variable(variable: Any) -> dict[str, Any] | None:
    """A variable with a value of its own: mlrun has dicts as well as objects of Kubernetes."""
    value = (
        variable.get("value") if isinstance(variable, dict) else getattr(variable, "value", None)
    )
    return None if value is None else {"name": _name(variable), "value": value}
