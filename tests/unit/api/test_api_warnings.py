"""What a deploy log says of declarations that do not act."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.api.submit import warnings
from stoker.nouns.function import FunctionConfig


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"minReplica": 0}, "did you mean minReplicas?"),
        ({"eventTimeOut": "3s"}, "did you mean eventTimeout?"),
        ({"volumes": [{"name": "v"}]}, "spec.volumes is kept but has no effect here"),
    ],
)
def test_a_field_that_does_not_act_is_named_with_the_one_that_was_meant(
    spec: dict[str, Any], said: str
) -> None:
    (line,) = warnings(FunctionConfig.parse({"metadata": {"name": "f"}, "spec": spec}))
    assert said in line


def test_fields_of_nuclio_that_resemble_none_of_ours_are_kept_without_a_word() -> None:
    spec = {"serviceType": "NodePort", "loggerSinks": [], "targetCPU": 75}
    assert warnings(FunctionConfig.parse({"metadata": {"name": "f"}, "spec": spec})) == []


@pytest.mark.parametrize(
    ("env", "lines"),
    [
        ({"STOKER_QUANTIZATION": "int8"}, 1),
        ({"STOKER_QUANTIZATION": "int8", "STOKER_MODEL": "/models/minilm"}, 0),
        ({"STOKER_QUANTIZATION": "none"}, 0),
        ({}, 0),
    ],
)
def test_a_quantization_of_no_model_is_said_to_do_nothing(env: dict[str, str], lines: int) -> None:
    spec = {"env": [{"name": name, "value": value} for name, value in env.items()]}
    said = warnings(FunctionConfig.parse({"metadata": {"name": "f"}, "spec": spec}))
    assert ["without STOKER_MODEL" in line for line in said] == [True] * lines
