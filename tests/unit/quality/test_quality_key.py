"""The key of a run: what changes a recipe's result changes it, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stoker.quality.key import recipe_facts, run_key

CPU: list[str] = []
H100 = ["cuda 9.0 NVIDIA H100 80GB HBM3"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def key(folder: Path, devices: list[str] = CPU, **env: str) -> str:
    return run_key({"recipe": recipe_facts(env, folder.parent, devices)})


def test_the_same_weights_under_another_time_are_the_same(model: Path) -> None:
    before = key(model, STOKER_MODEL=str(model))
    (model / "model.safetensors").touch()
    assert key(model, STOKER_MODEL=str(model)) == before


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json"])
def test_other_weights_or_another_config_are_another_run(model: Path, changed: str) -> None:
    before = key(model, STOKER_MODEL=str(model))
    (model / changed).write_text(json.dumps({"other": 1}))
    assert key(model, STOKER_MODEL=str(model)) != before


def test_another_recipe_or_device_is_another_run(model: Path) -> None:
    env = {"STOKER_MODEL": str(model), "STOKER_QUANTIZATION": "int8"}
    keys = {
        key(model, **env),
        key(model, **env | {"STOKER_QUANTIZATION": "bf16"}),
        key(model, H100, **env),
        key(model, ["cuda 8.0 NVIDIA A100"], **env),
    }
    assert len(keys) == 4


def test_another_version_of_a_library_that_has_a_part_in_it_is_another_run(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"STOKER_MODEL": str(model), "STOKER_QUANTIZATION": "int8"}
    before, cast = key(model, **env), key(model, STOKER_MODEL=str(model))
    from stoker.models import recipe

    real = recipe._version
    monkeypatch.setattr(
        recipe, "_version", lambda name: "0.0" if name == "onnxruntime" else real(name)
    )
    assert key(model, **env) != before
    assert key(model, STOKER_MODEL=str(model)) == cast


def test_another_calibration_file_is_another_run(model: Path) -> None:
    env: dict[str, Any] = {"STOKER_CALIBRATION": "texts.txt"}
    keys = {key(model, **env)}
    for text in ("one\n", "two\n"):
        (model.parent / "texts.txt").write_text(text)
        keys.add(key(model, **env))
    assert len(keys) == 3


def test_a_recipe_that_cannot_be_carried_out_has_a_key_of_its_own(model: Path) -> None:
    gone = key(model, STOKER_MODEL=str(model.parent / "nowhere"))
    assert gone != key(model, STOKER_MODEL=str(model))
