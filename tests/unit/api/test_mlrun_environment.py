"""What a project's secrets and a function's own metadata become in what is deployed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stoker.api.mlrun.compile import compile_function
from stoker.api.mlrun.function_object import FunctionObject
from stoker.nouns.function import FunctionConfig

CODE = base64.b64encode(b"def handler(context, event): ...").decode()


def compiled(secrets: dict[str, str] | None = None, **body: Any) -> FunctionConfig:
    metadata = {"name": "f"} | body.get("metadata", {})
    spec = {"build": {"functionSourceCode": CODE}} | body.get("spec", {})
    document = {"kind": "remote", "metadata": metadata, "spec": spec}
    function = FunctionObject.read(document, "shop", "f")
    return FunctionConfig.parse(compile_function(function, secrets=secrets).document)


def of_project(**secrets: str) -> dict[str, str]:
    """As the catalog gives them: under both names."""
    return {f"MLRUN_K8S_SECRET__{name}": value for name, value in secrets.items()} | secrets


@pytest.mark.parametrize(
    "name",
    [
        "NUCLIO_DASHBOARD_URL",
        "MLRUN_DBPATH",
        "V3IO_API",
        "V3IO_ACCESS_KEY",
        "MLRUN_ACTIVE_PROJECT",
        "STOKER_SECRET_ENV",
        "PATH",
        "PYTHONPATH",
        "LD_PRELOAD",
    ],
)
def test_no_secret_takes_the_place_of_what_a_worker_needs(name: str) -> None:
    env = compiled(of_project(**{name: "elsewhere", "TOKEN": "hush"})).env
    assert env.get(name) != "elsewhere"
    assert env[f"MLRUN_K8S_SECRET__{name}"] == "elsewhere"
    assert env["MLRUN_PROJECT_SECRETS_LIST"] == "TOKEN"
    hidden = env["STOKER_SECRET_ENV"].split(",")
    assert f"MLRUN_K8S_SECRET__{name}" in hidden
    assert name not in hidden


@pytest.mark.parametrize("name", ["LDAP_PASSWORD", "DATABASE_PATH", "V3IO_PASSWORD", "HOME_TOKEN"])
def test_a_secret_with_a_name_of_its_own_is_found_under_it(name: str) -> None:
    assert compiled(of_project(**{name: "hush"})).env[name] == "hush"


def test_what_the_function_itself_declares_may_have_any_name() -> None:
    own = [{"name": "PYTHONPATH", "value": "/srv/code"}]
    env = compiled(of_project(PYTHONPATH="/elsewhere"), spec={"env": own}).env
    assert env["PYTHONPATH"] == "/srv/code"


def test_annotations_of_the_function_are_kept_beside_those_of_its_config() -> None:
    config = compiled(
        metadata={"annotations": {"a": "mine", "n": 3, "none": None}},
        spec={"config": {"metadata.annotations.\\c.d/e\\": "f", "metadata.annotations.a": "x"}},
    )
    assert config.metadata.annotations == {"a": "mine", "n": "3", "c.d/e": "f"}
