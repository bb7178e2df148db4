"""Quantizing small models: what is replaced, what is kept, and that it survives the disk."""

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("torchao")

import torch
import transformers
from kernels import Kernels
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import LLAMA, bert, llama

from stoker.models import placement
from stoker.models.device import Target
from stoker.models.load import load, load_module
from stoker.models.prepare import prepare
from stoker.models.quantize import linears, make
from stoker.models.quantize.linears import SCHEMES, QuantizedLinear
from stoker.models.safe_file import write_aligned
from stoker.models.source import Source
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]
METHODS = ["int8", "int8-dynamic", "int4", "fp8"]
if importlib.util.find_spec("bitsandbytes"):
    METHODS += ["nf4", "fp4"]
IDS = torch.tensor([[2, 3, 5, 4, 6]])


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "h")


def declare(folder, quantization="none", task="text-generation", **env):
    more = {f"STOKER_{name}": value for name, value in env.items()}
    return ModelSettings.read(
        {"STOKER_MODEL": str(folder), "STOKER_QUANTIZATION": quantization, "STOKER_TASK": task}
        | more
    )


def quiet(_line):
    return None


def made(settings, home):
    result = prepare(settings, home, quiet)
    return result, load_module(result.folder, result.manifest, settings)


def logits(module):
    with torch.inference_mode():
        return module(input_ids=IDS).logits.float()


@pytest.mark.parametrize("method", METHODS)
def test_a_language_model_read_back_says_nearly_what_it_said(language, home, method):
    result, module = made(declare(language, method), home)
    original = transformers.AutoModelForCausalLM.from_pretrained(language, dtype=torch.float32)
    error = (logits(module) - logits(original)).norm() / logits(original).norm()
    assert error < (0.3 if method in ("int4", "nf4", "fp4") else 0.1)
    assert result.manifest.fidelity.measure == "perplexity"
    live = {name for name, one in module.named_modules() if isinstance(one, QuantizedLinear)}
    assert live == set(result.manifest.replaced)
    assert len(live) == 14
    assert result.manifest.reasons == {"model.embed_tokens": "embedding", "lm_head": "head"}


@pytest.mark.parametrize("method", METHODS)
def test_a_forward_leaves_the_model_and_what_is_saved_of_it_as_it_was(language, home, method):
    """bitsandbytes 4-bit silently corrupts when it is saved after a forward."""
    _, module = made(declare(language, method), home)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first = logits(module)
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n].view(torch.uint8), after[n].view(torch.uint8)) for n in after)
    assert torch.equal(logits(module), first)


def test_one_row_and_many_rows_are_computed_alike(language, home):
    """Another kernel multiplies few rows, and rounds them to bf16."""
    _, module = made(declare(language, "int8", DTYPE="fp32"), home)
    layer = module.model.layers[0].mlp.down_proj
    rows = torch.randn(20, layer.in_features)
    alone = torch.cat([layer(row[None]) for row in rows])
    assert (layer(rows) - alone).norm() < 0.01 * alone.norm()


FAST = {
    "_weight_int8pack_mm": torch.bfloat16, "_weight_int4pack_mm_for_cpu": torch.bfloat16,
    "mm": torch.float32, "addmm": torch.float32, "linear": torch.float32,
}  # fmt: skip
"""Kernels for matrices and the type in which such a CPU computes them fast: for another their loops
are 7 to 60 times as slow."""


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["int8", "int8-dynamic", "int4", "fp8"])
def test_a_cpu_that_multiplies_neither_int8_nor_bf16_is_given_what_it_computes_fast(
    monkeypatch, method, dtype, rows
):
    monkeypatch.setattr(linears, "multiplies_int8", lambda: False)
    monkeypatch.setattr(linears, "cpu", lambda: Target("cpu", bf16=False))
    torch.manual_seed(0)
    layer = torch.nn.Linear(128, 64).to(dtype)
    tensors, packed = make._make(layer, method, "cpu")
    quantized = SCHEMES[method](layer, tensors, packed=packed)
    inputs = torch.randn(rows, 128, dtype=dtype)
    with torch.inference_mode(), Kernels() as kernels:
        product = quantized(inputs)
    assert product.dtype == dtype
    expected = layer(inputs).float()
    assert (product.float() - expected).norm() / expected.norm() < (
        0.2 if method == "int4" else 0.06
    )
    multiplied = kernels.seen.keys() & {*FAST, "_int_mm"}
    assert multiplied
    for name in multiplied:
        assert kernels.seen[name] == {FAST.get(name)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_number_of_float8_is_widened_to_itself(dtype):
    numbers = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    numbers = numbers[~numbers.float().isnan()].view(2, 127)
    layer = SCHEMES["fp8"](torch.nn.Linear(127, 2), {"qdata": numbers, "scale": torch.ones(2)})
    assert torch.equal(layer.weight_in(dtype), numbers.to(dtype))


def test_activations_in_whole_numbers_are_multiplied_alike_by_every_kernel(monkeypatch):
    torch.manual_seed(0)
    layer = torch.nn.Linear(128, 64)
    tensors, _ = make._make(layer, "int8-dynamic", "cpu")
    quantized = SCHEMES["int8-dynamic"](layer, tensors)
    inputs = torch.randn(40, 128)
    products = []
    for instructions in (True, False):
        monkeypatch.setattr(
            linears, "multiplies_int8", lambda instructions=instructions: instructions
        )
        products.append(quantized(inputs))
        products.append(torch.cat([quantized(one[None]) for one in inputs]))
    for product in products[1:]:
        # A single row's sum is rounded to bf16 by its kernel.
        assert (product - products[0]).abs().max() < 0.01
    assert torch.allclose(products[0], products[2], atol=1e-5)


def test_weights_are_mapped_and_not_copied(language, home):
    result, module = made(declare(language, "int8"), home)
    maps = Path("/proc/self/maps").read_text()
    assert str(result.folder / "model.safetensors") in maps
    private = sum(one.numel() * one.element_size() for _, one in module.named_buffers())
    assert private < 0.1 * result.manifest.bytes_after


@pytest.mark.parametrize("shape", [(64, 64), (64, 40), (3, 64)])
@pytest.mark.parametrize("rows", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_of_any_shape_and_place_is_multiplied(shape, rows, dtype):
    """torch's int8 kernel crashes on a weight that does not begin at a multiple of 64 bytes."""
    linear = torch.nn.Linear(shape[1], shape[0])
    place = torch.zeros(shape[0] * shape[1] + 8, dtype=torch.int8)
    place[8:] = torch.arange(shape[0] * shape[1]) % 7
    tensors = {"qdata": place[8:].view(shape), "scale": torch.ones(shape[0])}
    layer = SCHEMES["int8"](linear, tensors)
    x = torch.randn(rows, shape[1]).to(dtype)
    expected = torch.nn.functional.linear(x.float(), tensors["qdata"].float(), linear.bias)
    assert (layer(x).float() - expected).norm() < 0.01 * expected.norm()


def test_every_weight_of_a_prepared_file_is_aligned_whatever_its_neighbours(tmp_path):
    tensors = {"a": torch.ones(3), "b": torch.arange(64), "c": torch.ones(5, dtype=torch.bool)}
    write_aligned(tmp_path / "w.safetensors", tensors)
    read = load_file(tmp_path / "w.safetensors")
    assert {name: torch.equal(read[name], one) for name, one in tensors.items()} == dict.fromkeys(
        tensors, True
    )
    assert read["b"].data_ptr() % 64 == 0


def test_tied_weights_stand_in_the_file_once_and_are_tied_again(language, home):
    result, module = made(declare(language, "bf16"), home)
    with safe_open(result.folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert len({"lm_head.weight", "model.embed_tokens.weight"} & names) == 1
    assert module.lm_head.weight is module.model.embed_tokens.weight


def test_buffers_that_no_file_holds_are_computed_again(language, home):
    _, module = made(declare(language), home)
    original = transformers.AutoModelForCausalLM.from_pretrained(language)
    torch.testing.assert_close(logits(module), logits(original))


def test_named_modules_stay_in_the_higher_precision(language, home):
    result, module = made(declare(language, "int8", QUANTIZATION_SKIP="*.mlp,q_proj"), home)
    assert isinstance(module.model.layers[1].mlp.up_proj, torch.nn.Linear)
    assert isinstance(module.model.layers[0].self_attn.q_proj, torch.nn.Linear)
    assert result.manifest.reasons["model.layers.0.mlp.up_proj"] == "declared"
    assert len(result.manifest.replaced) == 6


def test_a_pattern_that_matches_nothing_is_refused_with_what_there_is(language, home):
    with pytest.raises(UnusableModel, match=r"'atn' matches no module.*model\.embed_tokens"):
        prepare(declare(language, "int8", QUANTIZATION_SKIP="atn"), home, quiet)


def test_a_recipe_that_would_replace_no_module_is_an_error(language, home):
    """A recipe that silently quantizes no layer (NVIDIA Model-Optimizer PR#1596)."""
    with pytest.raises(UnusableModel, match="int8 replaced no module"):
        prepare(declare(language, "int8", QUANTIZATION_SKIP="model.layers"), home, quiet)


def test_a_model_of_layers_that_no_recipe_knows_is_refused(tmp_path, home):
    """GPT-2's layers are no torch.nn.Linear: quantizing the rest would look like success."""
    config = transformers.GPT2Config(vocab_size=7, n_embd=64, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UnusableModel, match=r"int8 replaced no module.*c_attn \(kind\)"):
        prepare(declare(tmp_path / "gpt2", "int8"), home, quiet)


def test_a_module_that_was_left_out_on_the_way_to_the_disk_is_noticed(language, home, monkeypatch):
    real = make.replace

    def forgetful(model, planned, method, **more):
        modules = real(model, planned, method, **more)
        first = planned.replace[0]
        make.set_module(model, first, torch.nn.Linear(64, 64, bias=False, dtype=torch.bfloat16))
        return {name: how for name, how in modules.items() if name != first}

    monkeypatch.setattr(make, "replace", forgetful)
    with pytest.raises(
        UnusableModel, match=r"its manifest lists: model\.layers\.0\.self_attn\.q_proj"
    ):
        prepare(declare(language, "int8"), home, quiet)


def test_a_corrupted_result_is_refused_by_its_perplexity(language, home, monkeypatch):
    real = make._make

    def corrupt(linear, method, device):
        tensors, packed = real(linear, method, device)
        return tensors | {"scale": tensors["scale"] * torch.nan}, packed

    monkeypatch.setattr(make, "_make", corrupt)
    with pytest.raises(UnusableModel, match=r"int8 changes this model too much.*nan"):
        prepare(declare(language, "int8"), home, quiet)
    assert not list(home.models.glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("text-classification", "BertForSequenceClassification"),
        ("token-classification", "BertForTokenClassification"),
        ("fill-mask", "BertForMaskedLM"),
    ],
)
def test_every_head_is_kept_and_the_layers_below_it_quantized(tmp_path, home, task, head):
    folder = bert(tmp_path / "m", head)
    result, module = made(declare(folder, "int8", task), home)
    assert type(module).__name__ == head
    assert all(name.startswith("bert.") for name in result.manifest.replaced)
    assert result.manifest.fidelity.measure == "distance"
    original = type(module).from_pretrained(folder)
    assert (logits(module) - logits(original)).abs().max() < 0.05
    transformers.AutoTokenizer.from_pretrained(result.folder)


def test_an_image_classifier_is_prepared(tmp_path, home):
    config = transformers.ViTConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=16,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    result, module = made(declare(tmp_path / "vit", "int8", "image-classification"), home)
    assert type(module).__name__ == "ViTForImageClassification"
    assert result.manifest.fidelity.texts == 4


def test_a_speech_recogniser_is_prepared(tmp_path, home):
    config = transformers.WhisperConfig(
        vocab_size=60, d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=8,
        max_source_positions=16, max_target_positions=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    transformers.WhisperForConditionalGeneration(config).save_pretrained(tmp_path / "w")
    task = "automatic-speech-recognition"
    result, module = made(declare(tmp_path / "w", "int8", task), home)
    assert len(result.manifest.replaced) == 16
    assert module.proj_out.weight is module.model.decoder.embed_tokens.weight


def test_a_device_map_that_leaves_part_on_the_disk_needs_leave_to(language, home):
    devices = {"model.embed_tokens": "cpu", "model.layers": "disk", "model.norm": "cpu"}
    devices |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
    env = {"DEVICE_MAP": json.dumps(devices)}
    result = prepare(declare(language, "int8"), home, quiet)
    whole = logits(load_module(result.folder, result.manifest, declare(language, "int8")))
    with pytest.raises(UnusableModel, match=r"model\.layers would be kept on the disk"):
        load_module(result.folder, result.manifest, declare(language, "int8", **env))
    allowed = declare(language, "int8", OFFLOAD="disk", **env)
    module = load_module(result.folder, result.manifest, allowed)
    assert module.model.layers[0].mlp.up_proj.qdata.is_meta
    torch.testing.assert_close(logits(module), whole)


def test_a_device_map_that_forgets_a_module_is_refused(language, home):
    result = prepare(declare(language), home, quiet)
    settings = declare(language, DEVICE_MAP='{"lm_head": "cpu"}')
    with pytest.raises(UnusableModel, match="STOKER_DEVICE_MAP"):
        load_module(result.folder, result.manifest, settings)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_the_declared_attention_is_the_one_that_computes(language, home, name):
    _, module = made(declare(language, ATTENTION=name), home)
    assert module.config._attn_implementation == name


def test_a_checkpoint_without_the_head_of_the_task_is_refused(tmp_path, home):
    """transformers fills a missing head with random numbers, and only warns."""
    folder = bert(tmp_path / "m")
    with pytest.raises(UnusableModel, match=r"text-classification needs: classifier\.bias"):
        prepare(declare(folder, "none", "text-classification"), home, quiet)


def test_the_tensor_that_a_truncated_file_lacks_is_named(tmp_path, home):
    folder = llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UnusableModel, match=r"is truncated: tensor 'model\.norm\.weight' needs"):
        prepare(declare(folder), home, quiet)
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(UnusableModel, match="header is cut"):
        prepare(declare(folder), home, quiet)


def test_weights_of_the_wrong_type_are_named(tmp_path, home):
    folder = llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(64, dtype=torch.int8)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnusableModel, match=r"model\.norm\.weight is I8, must be one of BF16"):
        prepare(declare(folder), home, quiet)


def test_a_model_that_is_quantized_already_is_refused(tmp_path, home):
    folder = llama(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnusableModel, match=r"quantized already \(gptq\): take the original"):
        prepare(declare(folder), home, quiet)


REMOTE = """
from transformers import LlamaConfig, LlamaForCausalLM
class SquidConfig(LlamaConfig):
    model_type = "squid"
class Squid(LlamaForCausalLM):
    config_class = SquidConfig
"""


def test_code_that_comes_with_a_model_runs_only_where_the_user_says_so(tmp_path, home, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "c"))
    folder = llama(tmp_path / "squid")
    (folder / "squid.py").write_text(REMOTE)
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "squid.SquidConfig", "AutoModelForCausalLM": "squid.Squid"}
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "squid", "auto_map": names})
    )
    with pytest.raises(UnusableModel, match="STOKER_TRUST_REMOTE_CODE=1"):
        prepare(declare(folder), home, quiet)
    _, module = made(declare(folder, TRUST_REMOTE_CODE="1"), home)
    assert type(module).__name__ == "Squid"


def test_pickled_weights_are_read_only_by_name_and_never_unpickle_code(tmp_path, home):
    folder = llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(UnusableModel, match="unless STOKER_PICKLED_WEIGHTS names"):
        prepare(declare(folder), home, quiet)
    settings = declare(folder, PICKLED_WEIGHTS="pytorch_model.bin")
    _, module = made(settings, home)
    assert torch.equal(module.model.norm.weight, tensors["model.norm.weight"])
    torch.save({"model.norm.weight": Source}, folder / "pytorch_model.bin")
    with pytest.raises(UnusableModel, match="something else than tensors"):
        prepare(settings, home, quiet)


@pytest.mark.parametrize(
    ("scheme", "level", "kind"), [("int8", 127, torch.int8), ("fp8", 448, torch.float8_e4m3fn)]
)
def test_sums_of_levels_do_not_pass_the_end_of_fp16(scheme, level, kind):
    """A card computes in fp16 where that is declared; an infinity times its scale stays one."""
    linear = torch.nn.Linear(64, 2, bias=False)
    tensors = {
        "qdata": torch.full((2, 64), level).to(kind),
        "scale": torch.full((2,), 1 / level, dtype=torch.float16),
    }
    rows = torch.full((9, 64), 100.0, dtype=torch.float16)
    answer = SCHEMES[scheme](linear, tensors)(rows)
    torch.testing.assert_close(
        answer, torch.full((9, 2), 6400.0, dtype=torch.float16), rtol=0.01, atol=0
    )


def test_a_task_s_inputs_go_where_its_weights_are_though_the_first_of_them_are_offloaded(
    language, home
):
    devices = {"model.embed_tokens": "disk", "model.layers": "cpu", "model.norm": "cpu"}
    devices |= {"model.rotary_emb": "cpu", "lm_head": "disk"}
    env = {"DEVICE_MAP": json.dumps(devices), "OFFLOAD": "disk"}
    asked = ["the ball"], {"max_new_tokens": 3}
    whole = load(declare(language), home)(*asked)
    offloaded = load(declare(language, **env), home)
    assert offloaded._module.model.embed_tokens.weight.is_meta
    assert offloaded(*asked) == whole
    assert offloaded(["the ball"], {"score": True})[0]["tokens"] == 1


@pytest.mark.parametrize("columns", [64, 4096])
def test_int8_by_int8_is_the_same_whatever_the_cpu_multiplies_them_with(monkeypatch, columns):
    linear = torch.nn.Linear(columns, 32, bias=False)
    qdata = torch.randint(-127, 128, (32, columns), dtype=torch.int8)
    layer = SCHEMES["int8-dynamic"](linear, {"qdata": qdata, "scale": torch.rand(32)})
    x, answers = torch.randn(20, columns), []
    for fast in (True, False):
        monkeypatch.setattr(
            "stoker.models.quantize.linears.multiplies_int8", lambda fast=fast: fast
        )
        answers.append(layer(x))
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("how", "used"), [("auto", {0, 1}), ("balanced", {0, 1}), ("sequential", {0})]
)
def test_a_worker_s_devices_share_a_model_unless_they_are_to_be_filled_in_turn(
    monkeypatch, how, used
):
    """The ledger promises as much on each: filled in turn, the first would hold all of it."""
    room = {0: 1 << 30, 1: 1 << 30, "cpu": 1 << 30}
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda *_: dict(room))
    config = transformers.LlamaConfig(**LLAMA | {"num_hidden_layers": 16})
    module = transformers.LlamaForCausalLM(config)
    devices = placement._device_map(module, declare("m", DEVICE_MAP=how))
    assert set(devices.values()) == used
