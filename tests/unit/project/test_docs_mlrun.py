"""The tables of docs/mlrun.md say what the signatures say."""

from __future__ import annotations

import copy
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import stoker

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mlrun.md").read_text()
SAMPLES: dict[str, Any] = {
    "workers": 2,
    "gpus": 1,
    "model": "/models/minilm",
    "task": "feature-extraction",
    "quantization": "int8",
    "quantization_skip": ["lm_head", "*.attn.*"],
    "calibration": "texts.txt",
    "prune": ["layers:4", "magnitude:0.2"],
    "distill": "features,steps=100",
    "distill_data": "sentences.txt",
    "distill_student": "/models/small",
    "dtype": "bf16",
    "attention": "sdpa",
    "device_map": {"": "cpu"},
    "offload": "cpu",
    "tensor_parallel": 2,
    "compile": True,
    "adapter": {"french": "/adapters/french"},
    "trust_remote_code": True,
    "pickled_weights": "pytorch_model.bin",
    "batch": 16,
    "batch_timeout": "5ms",
    "scale_to_zero": "60s",
    "min_replicas": 2,
    "max_replicas": 7,
    "timeout": "30s",
    "worker_timeout": "2s",
    "readiness_timeout": 90,
    "gpu_memory": "2GiB",
    "sleep_after": "5s",
    "queue_limit": 10,
}
BASE: dict[str, Any] = {
    "spec": {
        "env": [],
        "minReplicas": 1,
        "maxReplicas": 4,
        "triggers": {
            "http": {
                "kind": "http",
                "numWorkers": 1,
                "batch": {"mode": "disable", "batchSize": 2, "timeout": "1s"},
            }
        },
    }
}


def rows(heading: str) -> list[list[str]]:
    section = re.split(rf"^## {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    section = re.split(r"^## ", section, flags=re.MULTILINE)[0]
    found = [line.strip("|").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in row] for row in found[2:]]


def test_every_argument_of_gpu_has_its_row_in_order() -> None:
    named = [name for name in inspect.signature(stoker.gpu).parameters if name != "function"]
    assert [row[0].strip("`") for row in rows("`stoker.gpu`")] == named
    assert set(SAMPLES) == set(named)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every scalar and list by its dotted path, variables by their names."""
    if isinstance(value, dict):
        return {k: v for name in value for k, v in leaves(value[name], f"{path}.{name}").items()}
    if path.endswith(".env"):
        return {f".{one['name']}": one["value"] for one in value}
    return {path: value}


@pytest.mark.parametrize("argument", SAMPLES)
def test_an_argument_sets_what_its_row_says(argument: str) -> None:
    base = copy.deepcopy(BASE)
    if argument == "batch_timeout":
        base["spec"]["triggers"]["http"]["batch"]["mode"] = "enable"
    before = leaves(base)
    after = leaves(stoker.gpu(base, **{argument: SAMPLES[argument]}))
    changed = {path for path, value in after.items() if before.get(path) != value}
    (said,) = (row[2] for row in rows("`stoker.gpu`") if row[0] == f"`{argument}`")
    named = {name.replace('["', ".").rstrip('"]') for name in re.findall(r"`([^`]+)`", said)}
    assert len(named) == len(changed)
    assert all(any(path.endswith(f".{name}") for path in changed) for name in named), changed


def test_every_argument_of_local_has_its_row_in_order() -> None:
    named = list(inspect.signature(stoker.local).parameters)
    assert [row[0].strip("`") for row in rows("`stoker.local`")] == named
