"""``stoker rollout`` and ``stoker deploy --canary``: what they send, and what they show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stoker.cli import rollout_verbs
from stoker.cli.canary import CanaryOptions, declare
from stoker.cli.client import Answer, Client
from stoker.cli.failure import Failure
from stoker.cli.listing import screen
from stoker.cli.main import app
from stoker.cli.pack import Package
from stoker.nouns.rollout import CANARY_ANNOTATION, CanarySpec, canary_of

SIDE = {"requests": 40, "errors": 1, "error_rate": 0.025, "p50_ms": 10.0, "p95_ms": 1500.0}
CANARY = {
    "revision": 4,
    "servingRevision": 3,
    "share": 0.05,
    "ranS": 12.0,
    "spec": {"length_s": 300.0, "mirror": 0.5},
    "evidence": {
        "canary": SIDE,
        "stable": SIDE,
        "mirrored": 7,
        "differing": 2,
        "mirror_failed": 1,
        "mirror_dropped": 3,
    },
    "verdict": "40 of 50 requests",
    "asked": None,
}
EVENT = {"step": "rolled_back", "revision": 2, "stable": 1, "at": 1.0, "who": "stoker"}
HISTORY = [EVENT | {"why": "slow\x1b[2J", "evidence": {}}]


class Control:
    """Answers in the order given, the last one for ever; notes what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: list[Any] = []
        monkeypatch.setattr(Client, "send", lambda _self, *words, **_: self.send(*words))
        monkeypatch.setattr(rollout_verbs, "POLL_S", 0.0)

    def send(self, method: str, path: str, document: Any = None, *_: Any) -> Answer:
        self.asked.append((method, path, document))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Answer(200, None, json.dumps(answer).encode())  # type: ignore[arg-type]

    def run(self, *words: str) -> Result:
        env = {"STOKER_URL": "http://h:1", "NO_COLOR": "1"}
        return CliRunner().invoke(app, ["rollout", *words], env=env)


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Control:
    return Control(monkeypatch)


def rollout(canary: Any = None, step: str = "rolled_back") -> dict[str, Any]:
    history = [HISTORY[0] | {"step": step}]
    return {"function": "fn", "servingRevision": 3, "canary": canary, "history": history}


def test_a_status_shows_both_sides_and_the_history(control: Control) -> None:
    control.answers = [rollout(CANARY)]
    shown = control.run("status", "fn")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0] == "fn: revision 4 gets 5 % beside revision 3, for 12.0 s of 5m00s"
    assert lines[1] == "  canary   40 requests, 1 failed, p50 10 ms, p95 1.5 s"
    assert lines[3] == "  mirrored 7, differing 2, unanswered 1, not copied 3"
    assert lines[4] == "  40 of 50 requests"
    assert lines[5].endswith("revision 2 rolled back by stoker: slow\\x1b[2J")
    assert control.asked == [("GET", "/api/rollouts/fn", None)]


def test_a_status_as_json_is_what_the_platform_says(control: Control) -> None:
    control.answers = [rollout(CANARY)]
    assert json.loads(control.run("status", "fn", "--json").stdout) == rollout(CANARY)
    control.answers = [{"fn": CANARY}]
    assert json.loads(control.run("status", "--json").stdout) == {"fn": CANARY}
    control.answers = [{}]
    assert control.run("status").stdout == "no canaries\n"


@pytest.mark.parametrize(("step", "code"), [("promoted", 0), ("rolled_back", 1), ("aborted", 1)])
def test_a_pipeline_learns_from_the_exit_status_how_it_ended(
    control: Control, step: str, code: int
) -> None:
    control.answers = [rollout(CANARY), rollout(CANARY), rollout(None, step)]
    assert control.run("status", "fn", "--wait").exit_code == code
    assert len(control.asked) == 3


@pytest.mark.parametrize("verb", ["promote", "abort"])
def test_a_verb_is_asked_with_its_reason_and_waited_for(control: Control, verb: str) -> None:
    control.answers = [rollout(CANARY), rollout(CANARY), rollout(None, "promoted")]
    done = control.run(verb, "fn", "--why", "because")
    assert done.exit_code == 0, done.output
    assert control.asked[0] == ("POST", f"/api/rollouts/fn/{verb}", {"why": "because"})
    assert "revision 2 promoted by stoker" in done.stdout
    control.asked.clear()
    assert control.run(verb, "fn", "--no-wait").stdout == f"fn: asked to {verb}\n"
    assert len(control.asked) == 1


def test_options_become_the_annotation_and_leave_the_rest_as_it_was_declared() -> None:
    declared = json.dumps({"share": 0.5, "min_requests": 7, "bounds": {"error_rate": 0.2}})
    document = {"metadata": {"name": "fn", "annotations": {CANARY_ANNOTATION: declared}}}
    package = Package(document, Path("function.yaml"))
    declare(package, CanaryOptions(share="5%", length="2m", sticky="X-User"))
    found = canary_of(document["metadata"]["annotations"])  # type: ignore[arg-type]
    assert found is not None
    assert (found.share, found.length_s, found.sticky) == (0.05, 120, "X-User")
    assert (found.min_requests, found.bounds.error_rate) == (7, 0.2)


@pytest.mark.parametrize("length", ["90", "90s", "1m30s"])
def test_a_length_is_a_duration_or_seconds(length: str) -> None:
    assert CanaryOptions(length=length).fields() == {"length_s": 90.0}


def test_a_function_without_annotations_gets_one_with_the_defaults() -> None:
    document: dict[str, Any] = {"metadata": {"name": "fn", "annotations": None}}
    declare(Package(document, Path("function.yaml")), CanaryOptions(share="25%"))
    assert canary_of(document["metadata"]["annotations"]) == CanarySpec(share=0.25)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (CanaryOptions(share="0%"), "--canary must be a share above 0"),
        (CanaryOptions(share="lots"), "was 'lots'"),
        (CanaryOptions(share="5"), "at most 1, such as 5% or 0.05"),
        (CanaryOptions(share="5%", length="soon"), "--canary-length must be a duration"),
        (CanaryOptions(share="5%", length="nan"), "--canary-length must be a duration"),
        (CanaryOptions(share="5%", length="-5"), "--canary-length must be a duration"),
        (CanaryOptions(share="5%", length="0s"), "length_s: Input should be greater than 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: CanaryOptions, words: str) -> None:
    document: dict[str, Any] = {"metadata": {"name": "fn"}}
    with pytest.raises(Failure) as refused:
        declare(Package(document, Path("function.yaml")), options)
    assert words in refused.value.message


def test_top_shows_a_canarys_share() -> None:
    function = {
        "name": "fn",
        "state": "ready",
        "shownState": "ready",
        "canary": {"revision": 4, "share": 0.05},
        "replicas": {"starting": 0, "ready": 2, "draining": 0},
        "maxReplicas": 2,
        "inFlight": 0,
        "waiting": 0,
        "oldestWaitS": 0.0,
        "ratePerS": 1.0,
        "errorShare": 0.0,
        "coldStarts": 0,
        "wakeP90S": None,
        "lastActive": 0.0,
    }
    seen = {"version": "1", "functions": [function], "devices": []}
    assert "ready canary 5%" in screen(seen).plain
