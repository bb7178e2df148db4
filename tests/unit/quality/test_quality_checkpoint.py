"""What a prepared checkpoint holds is counted in its file, not taken from its manifest."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from stoker.decide.gate import judge_checkpoint
from stoker.models.manifest import Manifest
from stoker.nouns.home import Home
from stoker.nouns.settings import Quantization, Task
from stoker.quality.checkpoint import Checkpoint

KEY = {"key": "k1", "weights": 99}


def prepared(
    root: Path, *, claims: list[str], holds: dict[str, str], cut: int = 0,
    quantization: Quantization = Quantization.INT8,
) -> None:  # fmt: skip
    """A checkpoint whose file has tensors of these types, and a manifest that claims modules."""
    folder = Home.at(root).models / "k1"
    folder.mkdir(parents=True)
    Manifest(
        key="k1", model="m", source_digest="d", task=Task.FEATURE_EXTRACTION,
        quantization=quantization, backend="torchao", bytes_before=100, bytes_after=50,
        replaced=claims, seconds=3.5,
    ).write(folder)  # fmt: skip
    width = {"I8": 1, "BF16": 2}
    header, end = {}, 0
    for name, kind in holds.items():
        begin, end = end, end + 4 * width[kind]
        header[name] = {"dtype": kind, "shape": [4], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text + bytes(end)
    (folder / "model.safetensors").write_bytes(body[: len(body) - cut])


def refusals(checkpoint: Checkpoint | None, *, cast: bool = False) -> list[str]:
    assert checkpoint is not None
    return [one.code for one in judge_checkpoint(checkpoint.facts(cast=cast)) if not one.passed]


def test_what_is_claimed_and_held_passes(tmp_path: Path) -> None:
    prepared(tmp_path, claims=["a"], holds={"a.qdata": "I8", "a.scale": "BF16"})
    found = Checkpoint.of(KEY, tmp_path)
    assert refusals(found) == []
    assert found is not None
    assert (found.weight_bytes, found.prepare_s) == (50, 3.5)


def test_a_manifest_that_claims_more_than_the_file_holds_is_found_out(tmp_path: Path) -> None:
    holds = {"a.qdata": "I8", "b.weight": "BF16"}
    prepared(tmp_path, claims=["a", "b"], holds=holds)
    assert refusals(Checkpoint.of(KEY, tmp_path)) == ["fewer_quantized"]


def test_numbers_that_are_still_floats_are_not_quantized_whatever_their_name(
    tmp_path: Path,
) -> None:
    prepared(tmp_path, claims=["a"], holds={"a.qdata": "BF16"})
    assert refusals(Checkpoint.of(KEY, tmp_path)) == ["fewer_quantized"]


def test_a_manifest_that_claims_nothing_is_refused_unless_the_recipe_is_a_cast(
    tmp_path: Path,
) -> None:
    prepared(tmp_path, claims=[], holds={"a.weight": "BF16"})
    assert refusals(Checkpoint.of(KEY, tmp_path)) == ["nothing_quantized"]
    assert refusals(Checkpoint.of(KEY, tmp_path), cast=True) == []


@pytest.mark.parametrize("cut", [1, 9])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    prepared(tmp_path, claims=["a"], holds={"a.qdata": "I8", "b": "BF16"}, cut=cut)
    assert refusals(Checkpoint.of(KEY, tmp_path)) == ["nothing_quantized"]


def test_a_home_that_is_elsewhere_is_refused_and_a_function_without_a_model_is_not_asked() -> None:
    assert refusals(Checkpoint.of(KEY, None)) == ["nothing_quantized"]
    assert Checkpoint.of(None, None) is None
