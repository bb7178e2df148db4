"""More than one function with the name of one model: the deployment says who answers by it."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.nouns.model_name import TRIAL_LABEL


def declares(model: str) -> dict[str, Any]:
    return {"env": [{"name": "STOKER_MODEL_NAME", "value": model}]}


def first_seen_at(stage: Any, name: str, created_at: float) -> None:
    stage.effects.functions[name] = stage.effects.functions[name].model_copy(
        update={"created_at": created_at}
    )
    stage.world.functions[name].record = stage.effects.functions[name]


def test_the_second_function_of_a_models_name_is_told_that_the_first_answers(stage: Any) -> None:
    """Both were accepted without a word."""
    stage.serve("emb1", **declares("mini"))
    assert "STOKER_MODEL_NAME" not in stage.log("emb1")
    stage.deploy("emb2", **declares("mini"))
    assert (
        "STOKER_MODEL_NAME 'mini': emb1 has it too; requests for that model go to emb1, and this "
        "function answers by its own name only"
    ) in stage.log("emb2")


def test_the_first_that_is_deployed_anew_hears_that_it_goes_on_answering(stage: Any) -> None:
    stage.serve("emb1", **declares("mini"))
    stage.serve("emb2", **declares("mini"))
    first_seen_at(stage, "emb2", 1.0)
    stage.deploy("emb1", **declares("mini"))
    assert "emb2 has it too; requests for that model come to this function" in stage.log("emb1")


def test_a_models_name_that_is_a_functions_goes_to_that_function(stage: Any) -> None:
    stage.serve("emb1", **declares("mini"))
    stage.serve("mini")
    assert "'mini' of emb1 is this function's name: requests for that model come" in stage.log(
        "mini"
    )
    stage.deploy("emb2", **declares("mini"))
    assert "mini is a function's name; requests for that model go to mini" in stage.log("emb2")


@pytest.mark.parametrize("model", ["other", "", "emb2"])
def test_nothing_is_said_of_a_name_that_nobody_else_has(stage: Any, model: str) -> None:
    stage.serve("emb1", **declares("mini"))
    stage.deploy("emb2", **declares(model))
    assert "STOKER_MODEL_NAME" not in stage.log("emb2")


def test_a_trial_is_no_rival_of_what_it_is_a_recipe_of(stage: Any) -> None:
    stage.serve("emb1", **declares("mini"))
    stage.deploy("emb1-trial-int8", labels={TRIAL_LABEL: "emb1"}, **declares("mini"))
    assert "STOKER_MODEL_NAME" not in stage.log("emb1-trial-int8")
    stage.deploy("emb1", **declares("mini"))
    assert "STOKER_MODEL_NAME" not in stage.log("emb1")
