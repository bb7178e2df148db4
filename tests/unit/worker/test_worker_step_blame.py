"""An error of a graph's step names the step."""

from __future__ import annotations

import traceback
import types
from typing import Any

import pytest

from stoker.worker.step_blame import blame_step

STATES = types.ModuleType("mlrun.serving.states")
exec(
    """
class Step:
    def __init__(self, name, kind, inner=None):
        self.name, self.fullname, self.kind, self.inner = name, name, kind, inner

    def init_object(self):
        if self.inner is None:
            raise ImportError("Failed to import Doubble")
        self.inner.init_object()
""",
    STATES.__dict__ | {"__name__": STATES.__name__},
    STATES.__dict__,
)
Step: Any = STATES.__dict__["Step"]
Step.__module__ = STATES.__name__


def last_line(step: Any) -> str:
    with pytest.raises(ImportError) as raised:
        step.init_object()
    blame_step(raised.value)
    return "".join(traceback.format_exception(raised.value)).rstrip().splitlines()[-1]


def test_the_innermost_step_is_named_with_the_error() -> None:
    graph = Step("", "root", Step("prepare", "flow", Step("prepare/double", "task")))
    assert last_line(graph) == (
        "step 'prepare/double' of the graph cannot be started: "
        "ImportError: Failed to import Doubble"
    )


def test_an_error_of_no_step_is_left_as_it_is() -> None:
    assert last_line(Step("", "root")) == "ImportError: Failed to import Doubble"
    blame_step(ValueError("never raised"))
