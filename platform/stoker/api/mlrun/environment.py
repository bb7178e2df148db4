"""A function's variables: its own, its project's, its project's secrets, its graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stoker.api.mlrun.function_object import FunctionObject
from stoker.api.mlrun.serving import SECRET_PREFIX, Served
from stoker.nouns.secrecy import DECLARED

SECRET_NAMES = "MLRUN_PROJECT_SECRETS_LIST"  # noqa: S105  # the name of a variable
"""Names of the project's secrets in the environment, for MLRun's context in the function."""
_NOT_A_SECRETS_NAME = re.compile(
    r"NUCLIO_.*|V3IO_API|V3IO_ACCESS_KEY|MLRUN_DBPATH|MLRUN_(ACTIVE|DEFAULT)_PROJECT"
    r"|MLRUN_PROJECT_SECRETS_LIST|SERVING_SPEC_ENV|SERVING_CURRENT_FUNCTION"
    r"|STOKER_(SECRET_ENV|HOME|GATEWAY_URL)|PATH|HOME|TMPDIR|PYTHON[A-Z]+|LD_[A-Z_]+"
)
"""Variables by which a worker starts and finds its platform. A secret of such a name would send
the function's calls, and their access key, elsewhere, or load other code; it keeps its prefixed
form."""


def environment(
    function: FunctionObject, base: Any, secrets: Mapping[str, str], graph: Served | None
) -> list[dict[str, Any]]:
    """The variables, as Nuclio lists them; what the function declares wins.

    Args:
        function: the function.
        base: variables of the Nuclio config that it was made from.
        secrets: variables of the project whose values must not be shown; none of them takes the
            place of what the platform itself sets.
        graph: of a serving function.
    """
    secrets = {k: v for k, v in secrets.items() if not _NOT_A_SECRETS_NAME.fullmatch(k)}
    own = _by_name([*_listed(base), *function.listed("env")])
    given = {
        "MLRUN_ACTIVE_PROJECT": function.project,
        # Deprecated by MLRun, still what functions in the field read.
        "MLRUN_DEFAULT_PROJECT": function.project,
        **secrets,
    }
    of_graph = graph.variables if graph else {}
    hidden = {*secrets, *(graph.secrets if graph else ())}
    if secrets:
        names = sorted(name for name in secrets if not name.startswith(SECRET_PREFIX))
        given[SECRET_NAMES] = ",".join(names)
    found = _variables(given) | own | _variables(of_graph)
    if hidden:
        found[DECLARED] = {"name": DECLARED, "value": _declared(own, hidden)}
    return list(found.values())


def _variables(values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return {name: {"name": name, "value": value} for name, value in values.items()}


def _listed(variables: Any) -> list[dict[str, Any]]:
    return [v for v in variables if isinstance(v, dict)] if isinstance(variables, list) else []


def _by_name(variables: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(variable["name"]): variable for variable in variables if variable.get("name")}


def _declared(own: Mapping[str, Mapping[str, Any]], hidden: set[str]) -> str:
    """Which variables are secret, those that the function itself names included."""
    named = str(own.get(DECLARED, {}).get("value") or "").split(",")
    return ",".join(sorted({name.strip() for name in named if name.strip()} | hidden))
