"""``stoker ci quantize``: which function is meant, what is shown, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_platform import home_of_its_own
from stoker.app.files import make_home
from stoker.cli import quantize
from stoker.cli.failure import Failure
from stoker.cli.quantize import exit_code, find_folder, show
from stoker.nouns.home import Home
from stoker.quality.result import (
    CandidateResult,
    Check,
    Interval,
    Measured,
    MetricResult,
    QualityRun,
)


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.01, high=value + 0.01)


def metric(candidate: float) -> MetricResult:
    return MetricResult(
        set="sts", metric="spearman", items=9, reference=interval(0.82),
        candidate=interval(candidate), difference=interval(candidate - 0.82), agreement=0.97,
    )  # fmt: skip


def found(**changed: Any) -> QualityRun:
    measured = Measured(weight_bytes=23 << 20, latency_ms={"1": 2.7, "16": 54.5})
    refused = Check(code="agreement", passed=False, words="sts: mean cosine 0.9700, too little")
    told: dict[str, Any] = {
        "key": "k", "function": "f", "project": "p", "started_at": 0, "goal": "smallest",
        "reference": CandidateResult(name="reference", metrics=(metric(0.82),), measured=measured),
        "candidates": (
            CandidateResult(name="int8", metrics=(metric(0.81),), measured=measured, passed=True),
            CandidateResult(name="int4", metrics=(metric(0.80),), checks=(refused,)),
            CandidateResult(name="gptq", error="no such\x1b[2J method"),
        ),
        "winner": "int8", "verdict": "winner", "words": "int8 is the smallest", "seconds": 12.0,
    }  # fmt: skip
    return QualityRun(**(told | changed))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, 0),
        ({"verdict": "unchanged"}, 0),
        ({"rollout": {"state": "promoted"}}, 0),
        ({"rollout": {"state": "rolled_back"}}, 3),
        ({"rollout": {"state": "aborted"}}, 3),
        ({"rollout": {"state": "failed"}}, 3),
        ({"verdict": "refused", "winner": None}, 3),
        ({"verdict": "unchanged", "rollout": {"state": "rolled_back"}}, 0),
    ],
)
def test_the_exit_code_says_whether_what_should_serve_does(
    changed: dict[str, Any], code: int
) -> None:
    assert exit_code(found(**changed)) == code


def test_each_recipe_has_a_row_and_each_refusal_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(found())
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows["int8"].split()[1:5] == ["winner", "0.8100", "-0.0100", "0.9700"]
    assert "2.7" in rows["int8"]
    assert "23.0 MiB" in rows["int8"]
    assert rows["int4"].split()[1] == "refused"
    assert rows["gptq"].split()[1:3] == ["failed", "-"]
    assert "✗ int4: sts: mean cosine 0.9700, too little" in lines
    assert "✗ gptq: no such\\x1b[2J method" in lines
    assert lines[-1] == "✓ int8 is the smallest; 12.0 s"


def test_what_was_found_before_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(found(repeated=True, words="nothing changed since today: int8 serves", seconds=2.1))
    assert capsys.readouterr().out == "✓ nothing changed since today: int8 serves; 2.1 s\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder, name in (("embed", "embedder"), ("classify", "classify")):
        made = tmp_path / "functions" / folder
        made.mkdir(parents=True)
        (made / "function.yaml").write_text(f"metadata: {{name: {name}}}\n")
    (tmp_path / "functions" / "embed" / "quality.yaml").write_text("{}")
    return tmp_path


def test_a_package_that_is_missing_is_told_with_what_installs_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(Failure, match="needs the package scipy") as caught:
        quantize.quantize(
            "embed", project, None, rollout=False, again=False, accept_sets=False,
            as_json=False, report=None, out=None,
        )  # fmt: skip
    assert "pip install -e '.[quality]'" in caught.value.hint


def test_what_judges_is_not_imported_to_find_that_nothing_has_changed() -> None:
    code = (
        "import sys, stoker.cli.quantize, stoker.quality.run\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'torch', 'transformers', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize("name", ["embed", "embedder", ""])
def test_a_function_is_found_by_its_folder_its_own_name_or_as_the_only_one(
    project: Path, name: str
) -> None:
    folder = project / "functions" / "embed"
    assert find_folder(name, project) == folder
    assert find_folder(name, folder) == folder


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("embeder", "there is no function 'embeder'", "did you mean embedder?"),
        ("classify", "has no quality.yaml", "docs/quality.md has an example"),
    ],
)
def test_a_function_that_is_not_there_is_told_with_the_nearest(
    project: Path, name: str, told: str, hint: str
) -> None:
    with pytest.raises(Failure, match=told) as caught:
        find_folder(name, project)
    assert caught.value.hint == hint


def test_a_folder_of_another_function_is_not_taken(project: Path) -> None:
    with pytest.raises(Failure, match="is the function embedder, not classify"):
        find_folder("classify", project / "functions" / "embed")


@pytest.fixture
def short() -> Iterator[Path]:
    with home_of_its_own() as folder:
        yield folder


def test_an_address_that_cannot_be_read_is_no_reason_for_a_platform_of_ones_own(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline was green, and what it had judged was rolled out nowhere."""
    monkeypatch.setenv("STOKER_HOME", str(short))
    monkeypatch.setenv("STOKER_URL", "localhost:8070")
    with (
        pytest.raises(Failure, match="STOKER_URL must be like"),
        quantize._platform(None, lambda _line: None),
    ):
        pytest.fail("a platform was found, or started")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"report": "taken/quality.html"}, "--report: .*taken cannot be written to"),
        ({"report": "functions"}, "--report must be a file, .*functions is a folder"),
        ({"out": "taken"}, "--out: .*taken cannot be written to"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_before_anything_is_tried(
    project: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, str], told: str
) -> None:
    """It was said after all recipes had been judged, and by a traceback."""
    (project / "taken").write_text("")
    monkeypatch.setattr(quantize, "_platform", lambda *_: pytest.fail("a platform was asked for"))
    places = {"report": None, "out": None} | {k: project / v for k, v in option.items()}
    switches = dict.fromkeys(("rollout", "again", "accept_sets", "as_json"), False)
    with pytest.raises(Failure, match=told):
        quantize.quantize("embed", project, None, **switches, **places)


@pytest.mark.parametrize(
    ("url", "ours"),
    [("http://127.0.0.1:8070", True), ("http://localhost:8070", True),
     ("http://127.0.0.1:8071", False), ("http://gpu-1:8070", False)],
)  # fmt: skip
def test_only_what_runs_in_the_home_has_its_checkpoints_there(
    short: Path, monkeypatch: pytest.MonkeyPatch, url: str, ours: bool
) -> None:
    """Those of another platform were looked for in this home, and told to be damaged."""
    (short / "run").mkdir()
    told = {"control_url": "http://127.0.0.1:8070", "gateway_url": "http://127.0.0.1:8080"}
    (short / "run" / "endpoints.json").write_text(json.dumps(told))
    monkeypatch.setenv("STOKER_HOME", str(short))
    monkeypatch.setenv("STOKER_URL", url)
    monkeypatch.setattr(quantize, "_gateway", lambda _home: "http://there")
    with quantize._platform(None, lambda _line: None) as place:
        assert place.home == (short if ours else None)


def test_a_home_that_is_made_for_the_results_is_one_that_a_platform_takes(
    project: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where new folders are open to a group, `stoker up` refused the home from then on."""
    monkeypatch.setattr(quantize.signal, "signal", lambda *_: None)
    monkeypatch.setenv("STOKER_URL", "nowhere")
    switches = dict.fromkeys(("rollout", "again", "accept_sets", "as_json"), False)
    monkeypatch.setenv("STOKER_HOME", str(short / "h"))
    before = os.umask(0o002)
    try:
        with pytest.raises(Failure, match="STOKER_URL must be like"):
            quantize.quantize("embed", project, None, report=None, out=None, **switches)
    finally:
        os.umask(before)
    make_home(Home(short / "h"))
    assert (short / "h").stat().st_mode & 0o077 == 0
