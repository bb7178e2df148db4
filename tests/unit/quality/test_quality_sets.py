"""Evaluation sets: read, drawn, named by content, and held against what a recipe has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stoker.nouns.errors import BadRequest
from stoker.quality.declaration import EvaluationSet, TextSource
from stoker.quality.sets import leaked, load, text_digest, texts_of

METRICS = [{"name": "accuracy", "max_drop": 0.1}]
ROWS = "text,label,source\n" + "".join(
    f'"sentence number {i}",{"good" if i % 2 else "bad"},{"a" if i < 30 else "b"}\n'
    for i in range(40)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(ROWS)
    return tmp_path


def declared(**changed: Any) -> EvaluationSet:
    told = {
        "name": "rows", "kind": "labels", "source": "rows.csv", "metrics": METRICS,
        "columns": {"text": "text", "label": "label"},
    }  # fmt: skip
    return EvaluationSet.model_validate(told | changed)


def test_a_set_is_the_same_every_time_and_another_with_another_seed(folder: Path) -> None:
    first = load(declared(limit=10, seed=1), folder)
    assert first == load(declared(limit=10, seed=1), folder)
    assert len(first.items) == 10
    assert first.digest != load(declared(limit=10, seed=2), folder).digest


def test_one_changed_label_is_another_set(folder: Path) -> None:
    before = load(declared(), folder).digest
    (folder / "rows.csv").write_text(ROWS.replace('number 7",good', 'number 7",bad'))
    assert load(declared(), folder).digest != before


def test_only_the_rows_that_are_asked_for_are_taken(folder: Path) -> None:
    assert len(load(declared(where={"source": "b"}), folder).items) == 10


def test_the_head_s_items_are_none_of_those_that_are_judged(folder: Path) -> None:
    (folder / "rows.csv").write_text(ROWS + ROWS.split("\n", 1)[1].upper())
    loaded = load(declared(kind="classification", train=20), folder)
    assert len(loaded.train) == len(loaded.items) == 20
    seen = frozenset(text_digest(text) for item in loaded.train for text in item.texts)
    assert leaked(loaded.items, seen) == 0


def test_tab_separated_rows_without_a_header_keep_their_quotation_marks(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text('x\t4.5\t"A cat" sat.\tA cat.\ny\t0\tNo.\tYes.\n')
    pairs = declared(
        kind="similarity", source="pairs.tsv", header=False,
        columns={"score": 1, "first": 2, "second": 3},
        metrics=[{"name": "spearman", "max_drop": 0.1}],
    )  # fmt: skip
    item = load(pairs, tmp_path).items[0]
    assert item.texts == ('"A cat" sat.', "A cat.")
    assert item.expected == 4.5


def test_lines_and_json_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("one\n\ntwo\n")
    (tmp_path / "some.jsonl").write_text('{"text": "three", "n": 1}\n{"text": "four"}\n')
    found = [
        list(texts_of(TextSource(source=name, columns=("text",)), tmp_path))
        for name in ("some.txt", "some.jsonl")
    ]
    assert found == [["one", "two"], ["three", "four"]]


def test_a_leak_is_found_whatever_its_case_spaces_and_punctuation(folder: Path) -> None:
    (folder / "calibration.txt").write_text("Sentence  NUMBER 3!\nsomething else\n")
    seen = frozenset(map(text_digest, texts_of(TextSource(source="calibration.txt"), folder)))
    assert leaked(load(declared(), folder).items, seen) == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"source": "row.csv"}, "there is no file"),
        ({"source": "package://no_such_package_here/x.csv"}, "no package"),
        ({"columns": {"text": "txt", "label": "label"}}, "no column 'txt'; it has 'text', 'label'"),
        ({"source": "rows.bin"}, "say its format"),
        (
            {
                "kind": "similarity",
                "columns": {"first": "text", "second": "text", "score": "label"},
                "metrics": [{"name": "spearman", "max_drop": 0.1}],
            },
            "the score must be a number, was 'bad'",
        ),
        ({"where": {"label": "none"}}, "must have items to judge by: it has 0 as where asks for"),
        ({"train": 1000}, "must have items to judge by: it has .*, of which train takes 1000"),
    ],
)
def test_a_set_that_cannot_be_read_says_why(
    folder: Path, changed: dict[str, Any], told: str
) -> None:
    (folder / "rows.bin").write_text("x")
    with pytest.raises(BadRequest, match=told):
        load(declared(**changed), folder)
