"""``quality.yaml``: each mistake is told with its line, its field, and what would be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stoker.decide import gate
from stoker.nouns.errors import BadRequest
from stoker.quality import accepted, read, sets
from stoker.quality.declaration import METRICS, Declaration

FUNCTIONS = Path(__file__).resolve().parents[3] / "functions"
GOOD = """\
reference:
  env: {STOKER_QUANTIZATION: none}
candidates:
  - name: int8
    env: {STOKER_QUANTIZATION: int8}
sets:
  - name: pairs
    kind: similarity
    source: pairs.csv
    columns: {first: a, second: b, score: s}
    metrics:
      - {name: spearman, max_drop: 0.01}
goal: smallest
"""


def refused(text: str) -> str:
    with pytest.raises(BadRequest) as caught:
        read.parse(text)
    return caught.value.message


def test_the_example_function_s_declaration_is_right() -> None:
    assert isinstance(read.read(FUNCTIONS / "text-embedder"), Declaration)


def test_a_right_one_is_read_with_its_defaults() -> None:
    found = read.parse(GOOD)
    assert found.goal == "smallest"
    assert found.candidates[0].variables == {"STOKER_QUANTIZATION": "int8"}
    assert found.asking(found.sets[0]).body == {"texts": "$texts"}
    assert found.canary is not None


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        ("goal: smallest", "gaol: smallest", "yaml:13: gaol: no such field; did you mean 'goal'?"),
        (
            "goal: smallest",
            "goal: small",
            "yaml:13: goal: must be 'smallest', 'fastest' or 'cheapest', was 'small'",
        ),
        (
            "    source:",
            "    sorce:",
            "yaml:9: sets.0.sorce: no such field; did you mean 'source'?",
        ),
        (
            "max_drop",
            "max_dorp",
            "yaml:12: sets.0.metrics.0.max_dorp: no such field; did you mean 'max_drop'?",
        ),
        (", max_drop: 0.01", "", "must have a bound, or it judges nothing"),
        ("spearman", "acuracy", "a similarity set has spearman, pearson, was 'acuracy'"),
        (
            "score: s",
            "label: s",
            "yaml:10: sets.0.columns: a similarity set reads first, second, score; missing score",
        ),
        (
            "name: int8",
            "name: Int 8",
            "yaml:4: candidates.0.name: must be up to 30 lower-case letters",
        ),
        ("name: int8", "name: reference", "the name 'reference' is there twice"),
        ("N: int8}", "N: int9}", "yaml:5: candidates.0.env.STOKER_QUANTIZATION: must be one of"),
        (
            "{STOKER_QUANTIZATION: int8}",
            "{STOKER_QUANTISATION: int8}",
            "did you mean STOKER_QUANTIZATION?",
        ),
        (
            "max_drop: 0.01",
            "max_drop: much",
            "yaml:12: sets.0.metrics.0.max_drop: must be a valid number",
        ),
        ("kind: similarity", "kind: user", "function: a user set must name one"),
        (
            "goal: smallest",
            "canary: {share: 2}",
            "yaml:13: canary.share: must be less than or equal to 1, was 2",
        ),
        ("goal: smallest", "ask: {body: {texts: [x]}}", 'must hold "$texts"'),
        (
            "goal: smallest",
            "goal: smallest\ngoal: fastest",
            "yaml:14: the key 'goal' is there twice",
        ),
        ("goal: smallest", "goal: &goal [*goal]", "nested too deeply, or contains itself"),
        (
            "goal: smallest",
            "goal: 2026-02-30",
            "yaml: a value cannot be read: day is out of range for month",
        ),
        ("goal: smallest", "goal: [", "yaml:14"),
    ],
)
def test_a_mistake_is_told_where_it_stands(wrong: str, right: str, told: str) -> None:
    assert wrong in GOOD
    assert told in refused(GOOD.replace(wrong, right))


def test_every_mistake_is_told_at_once() -> None:
    text = GOOD.replace("goal: smallest", "goal: small").replace("max_drop", "max_dorp")
    assert len(refused(text).splitlines()) == 2


def test_a_file_that_is_not_there_says_what_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="says what the function's recipes are judged by"):
        read.read(tmp_path)


def test_the_page_s_example_is_right_and_names_every_field_and_check() -> None:
    page = (FUNCTIONS.parent / "docs" / "quality.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert read.parse(example).limits.size == 0.6
    named = [
        *Declaration.model_fields,
        *METRICS,
        *(one for kind in METRICS.values() for one in kind),
    ]
    source = Path(gate.__file__).read_text()
    codes = set(re.findall(r'Finding\(\s*"(\w+)"', source)) | set(gate._CODES.values())
    assert len(codes) >= 12
    assert [name for name in [*named, *codes] if f"`{name}`" not in page] == []


@pytest.mark.models
def test_the_example_function_s_accepted_sets_are_those_that_the_packages_hold() -> None:
    folder = FUNCTIONS / "text-embedder"
    held = {one.name: sets.load(one, folder).digest for one in read.read(folder).sets}
    found = accepted.read(folder)
    assert found is not None
    assert found.sets == held
    assert set(found.reference) == {"sts-b/spearman", "movie-reviews/accuracy"}
