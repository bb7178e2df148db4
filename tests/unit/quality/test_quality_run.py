"""Whole quality runs over a platform that is not there: tried, refused, kept, rolled out."""

from __future__ import annotations

import fcntl
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_control import Broken, FakeControl, env_of, fake_control
from live_platform import home_of_its_own
from stoker.cli.quantize import exit_code
from stoker.nouns.errors import BadRequest, Conflict
from stoker.quality import roll_out
from stoker.quality.package import CANARY_ANNOTATION, TRIAL_LABEL
from stoker.quality.result import QualityRun
from stoker.quality.run import run_quality
from stoker.quality.trial import TrialFailed

FUNCTION = """\
apiVersion: nuclio.io/v1
kind: Function
metadata: {name: embedder}
spec:
  handler: code:handler
  runtime: python
  minReplicas: 0
  env: [{name: NOISE, value: "0"}]
  triggers:
    http: {kind: http, numWorkers: 2}
    nightly: {kind: cron, attributes: {interval: 1h}}
"""
QUALITY = """\
reference: {env: {NOISE: 0}}
candidates:
  - {name: near, env: {NOISE: 0.01}}
  - {name: far, env: {NOISE: 2}}
sets:
  - name: pairs
    kind: similarity
    source: pairs.csv
    columns: {first: first, second: second, score: score}
    resamples: 200
    metrics: [{name: spearman, max_drop: 0.02}]
    agreement: 0.99
goal: fastest
canary: {share: 0.5, length_s: 1}
"""
WORDS = [
    "cat",
    "dog",
    "sun",
    "rain",
    "tree",
    "house",
    "river",
    "stone",
    "bread",
    "wine",
    "music",
    "chess",
]


def vector(text: str, noise: float) -> list[float]:
    """The sum of its words' vectors, and noise that is the text's own."""

    def numbers(seed: str) -> Any:
        digest = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
        return np.random.default_rng(digest).normal(size=16)

    whole = sum(numbers(word) for word in text.split())
    return [float(one) for one in whole + noise * numbers(f"noise of {text}")]


def answer(texts: list[str], env: dict[str, str]) -> list[Any]:
    return [vector(text, float(env["NOISE"])) for text in texts]


def pairs(count: int = 60) -> str:
    generator = np.random.default_rng(0)
    rows = ["first,second,score"]
    for _ in range(count):
        one = list(generator.choice(WORDS, 4, replace=False))
        shared = int(generator.integers(0, 5))
        rest = [word for word in WORDS if word not in one]
        other = one[:shared] + list(generator.choice(rest, 4 - shared, replace=False))
        rows.append(f"{' '.join(one)},{' '.join(other)},{shared}")
    return "\n".join(rows) + "\n"


@pytest.fixture
def fake() -> Iterator[FakeControl]:
    with fake_control(answer) as made:
        made.took_ms = lambda env: 2.0 if env["NOISE"] == "0.01" else 5.0
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A function's folder, in one whose path is short enough for a home beside it."""
    with home_of_its_own() as place:
        yield _filled(place)


def _filled(tmp_path: Path) -> Path:
    made = tmp_path / "embedder"
    made.mkdir()
    (made / "function.yaml").write_text(FUNCTION)
    (made / "code.py").write_text("def handler(context, event): ...\n")
    (made / "quality.yaml").write_text(QUALITY)
    (made / "pairs.csv").write_text(pairs())
    return made


def run(folder: Path, fake: FakeControl, **more: Any) -> QualityRun:
    home = folder.parent / "home"
    return run_quality(
        folder, control_url=fake.url, gateway_url=fake.url, home=home, **{"rollout": False, **more}
    )


def reasons(found: QualityRun, name: str) -> set[str]:
    one = next(one for one in found.candidates if one.name == name)
    return {check.code for check in one.checks if not check.passed}


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "quality.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_best_that_passes_wins_and_the_worse_is_refused(
    folder: Path, fake: FakeControl
) -> None:
    found = run(folder, fake)
    assert (found.verdict, found.winner) == ("winner", "near")
    near, far = found.candidates
    assert near.passed
    assert near.on_front
    assert not far.passed
    assert reasons(found, "far") >= {"agreement"}
    assert far.differing[0].distance >= far.differing[-1].distance > 0
    assert near.measured is not None
    assert near.measured.memory_bytes == 2000
    assert near.measured.ready_s == 0.25
    assert near.measured.latency_ms == {"1": 2.0, "16": 2.0}


def test_a_trial_is_a_function_of_its_own_that_is_gone_afterwards(
    folder: Path, fake: FakeControl
) -> None:
    seen: list[dict[str, Any]] = []
    fake.check = seen.append
    run(folder, fake)
    assert fake.trials == [
        "embedder-trial-reference", "embedder-trial-near", "embedder-trial-far",
    ]  # fmt: skip
    assert fake.functions == {}
    trial = seen[1]
    assert trial["metadata"]["labels"][TRIAL_LABEL] == "embedder"
    assert trial["spec"]["minReplicas"] == trial["spec"]["maxReplicas"] == 1
    assert list(trial["spec"]["triggers"]) == ["http"]
    assert env_of(trial) == {"NOISE": "0.01"}


def test_again_with_nothing_changed_it_does_nothing_and_says_so(
    folder: Path, fake: FakeControl
) -> None:
    first = run(folder, fake)
    fake.done.clear()
    second = run(folder, fake)
    assert fake.done == []
    assert second.repeated
    assert second.words.startswith("nothing changed since ")
    assert (second.key, second.winner) == (first.key, first.winner)


def test_its_own_report_in_the_function_s_folder_is_no_change_of_the_function(
    folder: Path, fake: FakeControl
) -> None:
    """``stoker ci quantize --report quality.html`` in the folder: each run was a new one."""
    run(folder, fake)
    (folder / "quality.html").write_text("<!doctype html>")
    assert run(folder, fake).repeated


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("quality.yaml", QUALITY.replace("goal: fastest", "goal: smallest")),
        ("code.py", "def handler(context, event): return 1\n"),
        ("function.yaml", FUNCTION.replace("numWorkers: 2", "numWorkers: 1")),
        ("pairs.csv", pairs(50)),
    ],
)
def test_any_change_is_evaluated_anew(
    folder: Path, fake: FakeControl, file: str, text: str
) -> None:
    first = run(folder, fake)
    fake.done.clear()
    (folder / file).write_text(text)
    assert run(folder, fake).key != first.key
    assert len(fake.trials) == 3


def test_a_candidate_that_cannot_be_built_has_its_reason_and_the_others_go_on(
    folder: Path, fake: FakeControl
) -> None:
    def check(document: dict[str, Any]) -> None:
        if env_of(document)["NOISE"] == "2":
            raise Broken("the model cannot be prepared: there is no such method")

    fake.check = check
    found = run(folder, fake)
    assert found.candidates[1].error == "the model cannot be prepared: there is no such method"
    assert found.winner == "near"
    assert fake.functions == {}


def test_a_candidate_that_fails_when_asked_has_its_reason(folder: Path, fake: FakeControl) -> None:
    def broken(texts: list[str], env: dict[str, str]) -> list[Any]:
        if env["NOISE"] == "2":
            raise RuntimeError("out of memory")
        return answer(texts, env)

    fake.answer = broken
    found = run(folder, fake)
    assert "out of memory" in found.candidates[1].error
    assert found.winner == "near"


def test_without_its_reference_nothing_is_judged(folder: Path, fake: FakeControl) -> None:
    def check(document: dict[str, Any]) -> None:
        raise Broken("no disk")

    fake.check = check
    with pytest.raises(TrialFailed, match="no disk"):
        run(folder, fake)
    assert fake.functions == {}


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda rows: [[math.nan] * 16 for _ in rows], "not_a_number"),
        (lambda rows: [[None] * 16 for _ in rows], "not_a_number"),
        (lambda rows: [[1.0] * 16 for _ in rows], "not_a_number"),
        (lambda rows: [[0.0] * 16 for _ in rows], "not_a_number"),
        (lambda rows: [row[:8] for row in rows], "agreement"),
        (lambda rows: ["a text" for _ in rows], "metric_failed"),
    ],
)
def test_answers_that_are_no_answers_are_refused(
    folder: Path, fake: FakeControl, spoil: Any, code: str
) -> None:
    def spoilt(texts: list[str], env: dict[str, str]) -> list[Any]:
        rows = answer(texts, env)
        return spoil(rows) if env["NOISE"] == "0.01" else rows

    fake.answer = spoilt
    found = run(folder, fake)
    assert code in reasons(found, "near")
    assert found.winner is None


def test_evaluating_on_what_the_recipe_was_calibrated_with_is_refused(
    folder: Path, fake: FakeControl
) -> None:
    first = pairs().splitlines()[1].split(",")[0]
    (folder / "calibration.txt").write_text(f"{first.upper()}!\n")
    edit(folder, "goal:", "calibration: [{source: calibration.txt}]\ngoal:")
    found = run(folder, fake)
    assert reasons(found, "near") == {"leak"}
    assert found.verdict == "refused"


def test_a_recipe_s_own_calibration_file_is_held_against_it_alone(
    folder: Path, fake: FakeControl
) -> None:
    first = pairs().splitlines()[1].split(",")[0]
    (folder / "own.txt").write_text(f"{first}\n")
    edit(folder, "far, env: {", "far, env: {STOKER_CALIBRATION: own.txt, ")
    found = run(folder, fake)
    assert "leak" in reasons(found, "far")
    assert reasons(found, "near") == set()


def test_a_calibration_file_that_cannot_be_read_is_refused(folder: Path, fake: FakeControl) -> None:
    edit(folder, "near, env: {", "near, env: {STOKER_CALIBRATION: nowhere.txt, ")
    assert reasons(run(folder, fake), "near") == {"leak"}


def test_a_set_that_was_swapped_is_refused_until_it_is_accepted(
    folder: Path, fake: FakeControl
) -> None:
    run(folder, fake)
    (folder / "pairs.csv").write_text(pairs(50))
    assert reasons(run(folder, fake), "near") == {"set_changed"}
    assert run(folder, fake, accept_sets=True).winner == "near"
    assert run(folder, fake).repeated


def test_a_reference_that_got_worse_since_it_was_accepted_refuses_all(
    folder: Path, fake: FakeControl
) -> None:
    run(folder, fake)

    def worse(texts: list[str], env: dict[str, str]) -> list[Any]:
        return answer(texts, env | {"NOISE": str(3 + float(env["NOISE"]))})

    fake.answer = worse
    found = run(folder, fake, again=True)
    assert "reference_moved" in reasons(found, "near")


def test_a_set_of_one_label_is_refused(folder: Path, fake: FakeControl) -> None:
    rows = [line.rpartition(",")[0] + ",3" for line in pairs().splitlines()[1:]]
    (folder / "pairs.csv").write_text("first,second,score\n" + "\n".join(rows))
    found = run(folder, fake)
    assert reasons(found, "near") >= {"one_class", "not_a_number"}
    assert run(folder, fake).repeated  # what is no number did not spoil what is kept


def test_a_metric_of_the_user_s_that_raises_refuses_the_candidate(
    folder: Path, fake: FakeControl
) -> None:
    (folder / "metric.py").write_text(
        "def score(items, answers):\n"
        "    if any(abs(row[0]) > 1e6 for row in answers):\n"
        "        raise ValueError('far off')\n"
        "    return [1.0 for _ in items]\n"
    )
    edit(
        folder,
        "goal:",
        "  - {name: own, kind: user, function: 'metric.py:score', source: pairs.csv,\n"
        "     columns: {text: first}, metrics: [{name: sane, at_least: 1}]}\ngoal:",
    )
    edit(folder, "NOISE: 2", "NOISE: 1e9")
    found = run(folder, fake)
    assert "metric_failed" in reasons(found, "far")
    assert reasons(found, "near") == set()
    assert found.winner == "near"


def test_what_a_killed_run_has_left_is_deleted_and_nothing_else(
    folder: Path, fake: FakeControl
) -> None:
    for name, of in (("embedder-trial-old", "embedder"), ("other-trial-x", "other")):
        document = {"metadata": {"name": name, "labels": {TRIAL_LABEL: of}}, "spec": {}}
        fake.deploy(name, document)
    run(folder, fake)
    assert list(fake.functions) == ["other-trial-x"]


def test_of_two_runs_at_once_the_second_is_told_who_runs(folder: Path, fake: FakeControl) -> None:
    run(folder, fake)
    lock = folder.parent / "home" / "quality" / "embedder" / "lock"
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match=r"is under way: process \d+, since \d\d:"):
            run(folder, fake)


def test_the_first_winner_serves_at_once_for_there_is_nothing_to_compare_it_with(
    folder: Path, fake: FakeControl
) -> None:
    found = run(folder, fake, rollout=True)
    assert found.rollout is not None
    assert found.rollout["state"] == "promoted"
    assert CANARY_ANNOTATION not in fake.functions["embedder"]["metadata"]["annotations"]
    assert env_of(fake.functions["embedder"]) == {"NOISE": "0.01"}
    assert list(fake.functions["embedder"]["spec"]["triggers"]) == ["http", "nightly"]
    again = run(folder, fake, rollout=True)
    assert again.verdict == "unchanged"
    assert again.words.endswith("near serves")


def served(folder: Path, fake: FakeControl) -> None:
    """The reference serves, as a plain deploy has it."""
    fake.deploy("embedder", {"metadata": {"name": "embedder"}, "spec": {"env": []}})


def ends(fake: FakeControl, step: str, why: str) -> None:
    """A canary that is there at the second look and has ended at the fourth."""

    def look(number: int) -> None:
        fake.canary = {"share": 0.5} if number in (2, 3) else None
        if number == 4:
            fake.history.append({"revision": 2, "step": step, "why": why})

    fake.on_look = look


def test_a_winner_is_a_canary_first_and_is_followed_until_it_is_promoted(
    folder: Path, fake: FakeControl
) -> None:
    served(folder, fake)
    ends(fake, "promoted", "60 requests, none failed")
    lines: list[str] = []
    found = run(folder, fake, rollout=True, progress=lines.append)
    notes = fake.functions["embedder"]["metadata"]["annotations"]
    assert '"share":0.5' in notes[CANARY_ANNOTATION]
    assert found.rollout is not None
    assert (found.rollout["state"], fake.looks) == ("promoted", 4)
    assert "60 requests, none failed" in found.words
    assert any("canary" in line for line in lines)


def test_one_that_was_rolled_back_is_not_tried_again_until_something_changes(
    folder: Path, fake: FakeControl
) -> None:
    served(folder, fake)
    ends(fake, "rolled_back", "its 95th percentile is 3 times as long")
    found = run(folder, fake, rollout=True)
    assert found.rollout is not None
    assert found.rollout["state"] == "rolled_back"
    fake.functions["embedder"]["status"]["servingRevision"] = 1
    fake.done.clear()
    again = run(folder, fake, rollout=True)
    assert fake.done == []
    assert "near does not serve, rolled back: its 95th percentile" in again.words


def test_a_canary_that_nobody_calls_is_left_to_the_platform_and_told_of_again(
    folder: Path, fake: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roll_out, "_LONGER_S", -10.0)  # over at the first look
    served(folder, fake)
    waiting = {"share": 0.5, "verdict": "0 of 50 requests", "ranS": 9.0}
    fake.on_look = lambda number: setattr(fake, "canary", waiting if number > 1 else None)
    found = run(folder, fake, rollout=True)
    assert found.rollout is not None
    assert found.rollout["state"] == "running"
    assert "0 of 50 requests" in found.words
    assert exit_code(found) == 0
    fake.functions["embedder"]["status"]["servingRevision"] = 1
    fake.done.clear()
    again = run(folder, fake, rollout=True)
    assert again.words.startswith("nothing changed since")
    assert "stoker rollout status embedder" in again.words
    fake.on_look = lambda number: setattr(fake, "canary", None)
    fake.history.append({"revision": 2, "step": "rolled_back", "why": "it is slow"})
    last = run(folder, fake, rollout=True)
    assert "it is slow" in last.words
    assert exit_code(last) == 3
    assert fake.done == []


def test_what_mlrun_deployed_keeps_what_mlrun_gave_it(folder: Path, fake: FakeControl) -> None:
    labels = {"mlrun/class": "remote", "nuclio.io/project-name": "default"}
    env = [
        {"name": "MLRUN_DEFAULT_PROJECT", "value": "default"},
        {"name": "STOKER_ATTENTION", "value": "eager"},
    ]
    spec = {"env": env, "handler": "old:handler", "build": {"commands": ["pip install x"]}}
    fake.deploy("embedder", {"metadata": {"name": "embedder", "labels": labels}, "spec": spec})
    ends(fake, "promoted", "60 requests, none failed")
    found = run(folder, fake, rollout=True)
    assert found.winner
    document = fake.functions["embedder"]
    assert document["metadata"]["labels"] == labels
    assert document["spec"]["build"]["commands"] == ["pip install x"]
    assert document["spec"]["handler"] == "code:handler"
    assert document["spec"]["build"]["path"] == str(folder)
    told = env_of(document)
    assert told["MLRUN_DEFAULT_PROJECT"] == "default"
    assert "STOKER_ATTENTION" not in told


def test_nothing_is_rolled_out_over_a_canary_that_is_under_way(
    folder: Path, fake: FakeControl
) -> None:
    served(folder, fake)
    fake.canary = {"share": 0.1}
    with pytest.raises(Conflict, match="stoker rollout abort embedder"):
        run(folder, fake, rollout=True)
    assert [line for line in fake.done if "trial" not in line] == ["deploy embedder"]


def test_the_folder_and_its_declaration_must_be_there(folder: Path, fake: FakeControl) -> None:
    (folder / "quality.yaml").unlink()
    with pytest.raises(BadRequest, match=r"quality\.yaml"):
        run(folder, fake)
    (folder / "function.yaml").unlink()
    with pytest.raises(BadRequest, match=r"no function\.yaml"):
        run(folder, fake)
