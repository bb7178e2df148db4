"""What the platform has already is not installed again."""

from __future__ import annotations

from importlib import metadata
from typing import ClassVar

import pytest

from stoker.controller.installed import without_satisfied
from stoker.controller.pip_plan import PipPlan

HTTPX = metadata.version("httpx")


@pytest.mark.parametrize(
    "wanted",
    [
        ("httpx",),
        ("httpx>=0.1", "ORJSON"),
        (f"httpx=={HTTPX}",),
        ("nowhere; python_version < '3'",),
        ("uvicorn[nothing]",),
    ],
)
def test_what_is_here_is_left_out(wanted: tuple[str, ...]) -> None:
    plan, satisfied = without_satisfied(PipPlan(wanted))
    assert plan.is_empty
    assert len(satisfied) == len(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        ("nowhere",),
        ("httpx<0.1",),
        ("httpx[cli,nowhere]>=999",),
        ("./my-1.0-py3-none-any.whl",),
        ("git+https://h/r.git",),
        ("httpx @ https://h/httpx.whl",),
    ],
)
def test_what_is_not_here_stays(wanted: tuple[str, ...]) -> None:
    assert without_satisfied(PipPlan(wanted)) == (PipPlan(wanted), [])


def test_an_extra_is_here_only_with_everything_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.distribution("httpx")

    class Lacking(metadata.PathDistribution):
        requires: ClassVar[list[str]] = [
            "anyio",
            "nowhere>=1; extra == 'more'",
            "orjson; extra == 'some'",
        ]

    lacking = Lacking(real._path)  # type: ignore[attr-defined]
    monkeypatch.setattr(
        metadata,
        "distribution",
        lambda name: lacking if name == "httpx" else metadata.Distribution.from_name(name),
    )
    assert without_satisfied(PipPlan(("httpx[some]",)))[0].is_empty
    assert not without_satisfied(PipPlan(("httpx[more]",)))[0].is_empty


def test_with_one_missing_all_are_resolved_together() -> None:
    plan = PipPlan(("httpx", "nowhere"))
    assert without_satisfied(plan) == (plan, [])


def test_what_pip_s_options_mean_only_pip_knows() -> None:
    plan = PipPlan(("httpx",), ("--upgrade",))
    assert without_satisfied(plan) == (plan, [])
