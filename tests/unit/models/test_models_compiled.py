"""STOKER_COMPILE: the build compiles, a worker only opens what was compiled."""

import os
import shutil
import subprocess
import sys
import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from tiny import bert

from stoker.models import compiled
from stoker.models.load import load
from stoker.models.prepare import prepare
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]
needs_a_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++")
WORKER = """
import os
from stoker.models.load import load_from
from stoker.models.compiled import compiler
assert not compiler()
model = load_from(os.environ)
print(model.manifest.compiled, [one["score"] for one in model(["the ball and ."])[0]])
"""


def declare(folder, compile_="1"):
    return ModelSettings.read(
        {
            "STOKER_MODEL": str(folder), "STOKER_TASK": "text-classification",
            "STOKER_QUANTIZATION": "fp32", "STOKER_COMPILE": compile_,
        }
    )  # fmt: skip


@needs_a_compiler
def test_a_worker_without_a_compiler_answers_with_what_the_build_compiled(tmp_path):
    folder, home = bert(tmp_path / "m", "BertForSequenceClassification"), Home.at(tmp_path / "h")
    result = prepare(declare(folder), home, lambda _: None)
    assert (result.folder / compiled.LIBRARY).is_file()
    assert not (result.folder / "steps").exists()
    plain = load(declare(folder, "0"), home)
    assert not plain.manifest.compiled
    expected = [one["score"] for one in plain(["the ball and ."])[0]]
    env = os.environ | {
        "STOKER_HOME": str(home.root), "STOKER_MODEL": str(folder), "STOKER_COMPILE": "1",
        "STOKER_TASK": "text-classification", "STOKER_QUANTIZATION": "fp32", "PATH": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    env.pop("CXX", None)
    said = subprocess.run(
        [sys.executable, "-c", WORKER], env=env, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    names, _, scores = said.stdout.rpartition("[")
    assert "input_ids" in names
    assert [float(one) for one in scores.strip(" ]\n").split(",")] == pytest.approx(
        expected, abs=1e-4
    )
    model = load(declare(folder), home)
    several = model(["the ball", "vote and vote and the ball .", "ball"])
    for mine, theirs in zip(
        several, plain(["the ball", "vote and vote and the ball .", "ball"]), strict=True
    ):
        assert mine[0]["score"] == pytest.approx(theirs[0]["score"], abs=1e-4)


@needs_a_compiler
def test_a_library_that_computes_otherwise_is_refused(tmp_path, monkeypatch):
    folder, home = bert(tmp_path / "m", "BertForSequenceClassification"), Home.at(tmp_path / "h")
    real = compiled._opened
    monkeypatch.setattr(
        compiled, "_opened", lambda *a: lambda given: real(*a)(given) * torch.tensor([1.0, -1.0])
    )
    with pytest.raises(UnusableModel, match=r"answers .* otherwise"):
        prepare(declare(folder), home, lambda _: None)
    assert not list(home.models.glob("*/manifest.json"))


def test_without_a_compiler_the_build_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "compiler", lambda: "")
    folder = bert(tmp_path / "m", "BertForSequenceClassification")
    with pytest.raises(UnusableModel, match=r"needs a C\+\+ compiler .* install g\+\+"):
        prepare(declare(folder), Home.at(tmp_path / "h"), lambda _: None)


def test_what_torch_warns_itself_of_is_not_told(tmp_path, monkeypatch):
    """Its FutureWarning about copyreg.py stood in the deploy log."""

    def warns(*_, **__):
        warnings.warn("this is deprecated", FutureWarning, stacklevel=1)
        raise RuntimeError("no further")

    monkeypatch.setattr(compiled, "compiler", lambda: "g++")
    monkeypatch.setattr(torch.export, "export", warns)
    folder = bert(tmp_path / "m", "BertForSequenceClassification")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with pytest.raises(UnusableModel, match="no further"):
            prepare(declare(folder), Home.at(tmp_path / "h"), lambda _: None)
    assert not [one for one in heard if "this is deprecated" in str(one.message)]
