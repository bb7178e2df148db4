"""Layers and weights that are taken out of a model, read back from the prepared checkpoint."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch
import transformers

import tiny_tasks
from stoker.models.compress import alive, layers
from stoker.models.compress.layers import shortened
from stoker.models.load import load
from stoker.models.manifest import Fidelity
from stoker.models.prepare import prepare
from stoker.models.prepared import open_module
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "h")


@pytest.fixture
def encoder(tmp_path):
    (tmp_path / "bert").mkdir()
    return tiny.bert(tmp_path / "bert")


def declare(folder, prune, **more):
    return ModelSettings.read({"STOKER_MODEL": str(folder), "STOKER_PRUNE": prune} | more)


def made(folder, home, prune, **more):
    said = []
    prepared = prepare(declare(folder, prune, **more), home, said.append)
    return prepared, "\n".join(said)


def zeros(prepared, name):
    return open_module(prepared.folder, prepared.manifest).get_submodule(name).weight == 0


def deep_llama(folder, count=4):
    config = transformers.LlamaConfig(**tiny.LLAMA | {"num_hidden_layers": count})
    torch.manual_seed(0)
    folder.mkdir()
    return tiny.save(folder, transformers.LlamaForCausalLM(config))


def test_a_share_of_each_matrix_is_zero_in_the_file_that_workers_map(encoder, home):
    prepared, said = made(encoder, home, "magnitude:0.3")
    pruned = prepared.manifest.pruned
    assert pruned is not None
    assert (pruned.declared, pruned.matrices) == ("magnitude:0.3", 12)
    assert pruned.sparsity == pytest.approx(0.3, abs=0.001)
    query = zeros(prepared, "encoder.layer.0.attention.self.query")
    assert query.float().mean() == pytest.approx(0.3, abs=0.001)
    assert not zeros(prepared, "embeddings.word_embeddings")[1:].any()  # the first is padding
    assert "notice: zeros take as many bytes" in said


def test_the_weights_of_least_magnitude_go(encoder, home):
    before = transformers.AutoModel.from_pretrained(encoder).encoder.layer[1].output.dense.weight
    gone = zeros(made(encoder, home, "magnitude:0.25")[0], "encoder.layer.1.output.dense")
    assert before.abs()[gone].max() <= before.abs()[~gone].min()


def test_two_of_every_four_weights_are_zero(encoder, home):
    prepared, said = made(encoder, home, "2:4")
    fours = zeros(prepared, "encoder.layer.0.intermediate.dense").reshape(-1, 4)
    assert (fours.sum(1) == 2).all()
    assert prepared.manifest.pruned.sparsity == 0.5
    assert "torchao" in prepared.manifest.libraries
    assert "faster only on cards" in said


def test_a_model_of_fewer_layers_says_so_and_answers(tmp_path, home):
    folder = deep_llama(tmp_path / "llama")
    prepared, _ = made(folder, home, "layers:2", STOKER_TASK="text-generation")
    config = json.loads((prepared.folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    assert prepared.manifest.pruned.layers_kept == [0, 3]
    module = open_module(prepared.folder, prepared.manifest)
    assert [one.self_attn.layer_idx for one in module.model.layers] == [0, 1]
    whole = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(
        module.model.layers[1].mlp.up_proj.weight, whole.model.layers[3].mlp.up_proj.weight
    )
    assert prepared.manifest.bytes_after < 0.8 * prepared.manifest.bytes_before


def test_a_shorter_model_generates_with_its_cache_what_it_does_without(tmp_path):
    """Layers that kept their old number would look for a cache that is not there."""
    whole = transformers.AutoModelForCausalLM.from_pretrained(deep_llama(tmp_path / "llama"))
    short = shortened(whole, (0, 3))
    ids = torch.tensor([[2, 3, 4]])
    told = [
        short.generate(ids, max_new_tokens=6, do_sample=False, use_cache=cached)
        for cached in (True, False)
    ]
    assert told[0].tolist() == told[1].tolist()


def test_what_a_configuration_lists_for_each_layer_is_shortened_with_them(tmp_path):
    config = transformers.Qwen2Config(
        **tiny.LLAMA | {"num_hidden_layers": 4},
        layer_types=["full_attention", "sliding_attention"] * 2,
        use_sliding_window=True,
        sliding_window=8,
    )
    short = shortened(transformers.Qwen2ForCausalLM(config).eval(), (0, 1, 3))
    assert short.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert config.num_hidden_layers == 4
    assert short(input_ids=torch.tensor([[2, 3]])).logits.isfinite().all()


def test_layers_go_before_weights_and_both_are_told(tmp_path, home):
    folder = deep_llama(tmp_path / "llama")
    more = {"STOKER_TASK": "text-generation", "STOKER_QUANTIZATION": "bf16"}
    prepared, said = made(folder, home, "layers:0,1,2,magnitude:0.5", **more)
    pruned = prepared.manifest.pruned
    assert (pruned.layers_kept, pruned.matrices) == ([0, 1, 2], 21)
    assert "3 of 4 layers stay: 0, 1, 2" in said
    assert "weights in 21 matrices are zero, 50.0%" in said
    assert zeros(prepared, "model.layers.2.mlp.up_proj").float().mean() == 0.5


def test_a_pruned_encoder_is_quantized_by_onnx_runtime(encoder, home):
    prepared, said = made(encoder, home, "layers:1,magnitude:0.1", STOKER_QUANTIZATION="int8")
    assert prepared.manifest.backend == "onnxruntime"
    assert {name.split(".")[2] for name in prepared.manifest.replaced if "layer" in name} == {"0"}
    assert "quantized beside unquantized" in said
    settings = declare(encoder, "layers:1,magnitude:0.1", STOKER_QUANTIZATION="int8")
    assert load(settings, home).encode(["the ball"]).shape == (1, 64)


def test_the_weights_keep_the_numbers_that_the_checkpoint_has(tmp_path, home):
    folder = tmp_path / "half"
    folder.mkdir()
    torch.manual_seed(0)
    tiny.save(folder, transformers.BertModel(transformers.BertConfig(**tiny.BERT)).bfloat16())
    prepared, _ = made(folder, home, "magnitude:0.1")
    module = open_module(prepared.folder, prepared.manifest)
    assert module.encoder.layer[0].output.dense.weight.dtype is torch.bfloat16


def test_each_pruning_is_a_checkpoint_of_its_own_and_is_found_again(encoder, home):
    folders = {made(encoder, home, one)[0].folder for one in ("magnitude:0.1", "2:4", "")}
    assert len(folders) == 3
    assert not made(encoder, home, "2:4")[0].built
    assert load(declare(encoder, "2:4"), home).folder == made(encoder, home, "2:4")[0].folder


def test_a_pruning_that_takes_nothing_out_is_an_error(encoder, home):
    with pytest.raises(UnusableModel, match=r"made no weight of this model zero"):
        made(encoder, home, "magnitude:0.000001")
    with pytest.raises(UnusableModel, match=r"takes no layer out: the model has 2; keep fewer"):
        made(encoder, home, "layers:2")
    assert not list(home.models.glob("*/manifest.json"))


def test_a_layer_that_is_not_there_is_named(encoder, home, tmp_path):
    with pytest.raises(UnusableModel, match=r"keeps layer 7: the model's 4 layers are 0 to 3"):
        made(deep_llama(tmp_path / "l"), home, "layers:0,7", STOKER_TASK="text-generation")


def test_an_encoder_with_a_decoder_has_no_one_stack(tmp_path, home):
    (tmp_path / "whisper").mkdir()
    tiny_tasks.whisper(tmp_path / "whisper")
    with pytest.raises(UnusableModel, match="'whisper' has no one stack of layers"):
        made(tmp_path / "whisper", home, "layers:1", STOKER_TASK="automatic-speech-recognition")


def test_adapters_of_the_whole_model_are_not_laid_over_a_shorter_one(tmp_path, home):
    more = {"STOKER_TASK": "text-generation", "STOKER_ADAPTER": "a=/x"}
    with pytest.raises(UnusableModel, match="STOKER_ADAPTER: adapters were made for the layers"):
        made(deep_llama(tmp_path / "l"), home, "layers:2", **more)


@pytest.mark.parametrize(
    ("measure", "mean"),
    [("cosine", 0.02), ("cosine", float("nan")), ("perplexity", 1e9), ("distance", float("nan"))],
)
def test_what_says_nothing_any_more_is_refused(measure, mean):
    with pytest.raises(UnusableModel, match="nothing to do with its original"):
        alive.check(Fidelity(measure=measure, texts=3, mean=mean, worst=mean))


def test_what_is_only_worse_is_left_to_the_gate():
    for measure, mean in (("cosine", 0.3), ("perplexity", 500.0), ("distance", 0.9)):
        alive.check(Fidelity(measure=measure, texts=3, mean=mean, worst=mean))


def test_layers_that_stay_are_the_first_the_last_and_evenly_between():
    spaced = {
        count: layers.chosen(declare("/m", f"layers:{count}").prune, 12) for count in (2, 3, 6)
    }
    assert spaced == {2: (0, 11), 3: (0, 6, 11), 6: (0, 2, 4, 7, 9, 11)}
