"""On a CPU that only emulates bf16: kept in bf16, computed with in fp32."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from kernels import Kernels
from safetensors import safe_open
from tiny import bert, llama

from stoker.models import device
from stoker.models.device import Target
from stoker.models.load import load, load_module
from stoker.models.narrow import NarrowLinear, narrow
from stoker.models.prepare import prepare
from stoker.models.recipe import choose
from stoker.nouns.home import Home
from stoker.nouns.settings import Dtype, ModelSettings

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]
IDS = torch.tensor([[2, 3, 5, 4, 6]])
EMULATES = Target("cpu", bf16=False)


@pytest.fixture(autouse=True)
def emulates(monkeypatch):
    monkeypatch.setattr(device, "cpu", lambda: EMULATES)


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "h")


def declare(folder, quantization, task="text-generation", **env):
    more = {f"STOKER_{name}": value for name, value in env.items()}
    return ModelSettings.read(
        {"STOKER_MODEL": str(folder), "STOKER_QUANTIZATION": quantization, "STOKER_TASK": task}
        | more
    )


def quiet(_line):
    return None


def on_disk(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def test_bf16_is_stored_and_no_layer_multiplies_it(language, home):
    settings, said = declare(language, "bf16"), []
    made = prepare(settings, home, said.append)
    assert [line for line in said if "computed with in fp32" in line]
    types = on_disk(made.folder)
    assert (
        types["model.embed_tokens.weight"] == types["model.layers.0.mlp.up_proj.weight"] == "BF16"
    )
    module = load_module(made.folder, made.manifest, settings)
    original = transformers.AutoModelForCausalLM.from_pretrained(language, dtype=torch.float32)
    with torch.inference_mode(), Kernels() as kernels:
        logits = module(input_ids=IDS).logits
    for name in kernels.seen.keys() & {"mm", "addmm", "bmm", "linear"}:
        assert kernels.seen[name] == {torch.float32}
    expected = original(input_ids=IDS).logits
    assert logits.dtype == torch.float32
    assert (logits - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_what_is_not_quantized_is_stored_in_bf16_too(language, home, quantization):
    pytest.importorskip("torchao")
    made = prepare(declare(language, quantization), home, quiet)
    types = on_disk(made.folder)
    assert types["model.embed_tokens.weight"] == "BF16"
    assert types["model.norm.weight"] == "F32"
    assert made.manifest.dtype is Dtype.FP32
    assert made.manifest.reasons == {"model.embed_tokens": "embedding", "lm_head": "head"}


def test_a_tied_weight_stands_there_once_and_is_tied_again(language, home):
    settings = declare(language, "bf16")
    made = prepare(settings, home, quiet)
    assert "lm_head.weight" not in on_disk(made.folder)
    module = load_module(made.folder, made.manifest, settings)
    assert module.lm_head.weight is module.model.embed_tokens.weight


def test_a_text_is_written_as_in_fp32(language, home):
    asked = ["the ball"], {"max_new_tokens": 8}
    narrowed = load(declare(language, "bf16"), home)(*asked)
    assert narrowed == load(declare(language, "fp32"), home)(*asked)


def test_an_encoder_answers_alike_alone_and_among_others(tmp_path, home):
    model = load(declare(bert(tmp_path / "bert"), "bf16", "feature-extraction"), home)
    texts = ["the ball", "a vote and the ball", "the"]
    together = torch.tensor(model.encode(texts))
    alone = torch.cat([torch.tensor(model.encode([text])) for text in texts])
    assert torch.nn.functional.cosine_similarity(together, alone).min() > 0.9999


def test_a_model_says_that_it_computes_in_fp32(language, home):
    """Masks and inputs are made in what a model says of itself: the first weight's type."""
    settings = declare(language, "bf16")
    made = prepare(settings, home, quiet)
    module = load_module(made.folder, made.manifest, settings)
    assert next(module.parameters()).dtype == torch.bfloat16
    assert module.dtype == module.model.dtype == torch.float32
    assert type(module).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("quantization", "env"),
    [
        ("none", {}), ("fp32", {}), ("bf16", {"DTYPE": "bf16"}), ("int8", {"DTYPE": "fp32"}),
        ("bf16", {"TENSOR_PARALLEL": "2"}),
    ],
)  # fmt: skip
def test_what_is_declared_in_so_many_words_is_done(language, quantization, env):
    assert not choose(declare(language, quantization, **env)).narrow


def test_a_cpu_that_computes_bf16_does(language):
    recipe = choose(declare(language, "bf16"), Target("cpu"))
    assert (recipe.narrow, recipe.dtype) == (False, Dtype.BF16)


def test_a_checkpoint_of_the_other_kind_of_cpu_is_not_taken(language):
    settings = declare(language, "bf16")
    assert choose(settings, EMULATES).key("x") != choose(settings, Target("cpu")).key("x")


def test_a_weight_that_another_kind_of_module_shares_stays():
    class Scaled(torch.nn.Embedding):
        def forward(self, ids):
            return 2 * super().forward(ids)

    model = torch.nn.ModuleList([Scaled(8, 4), torch.nn.Linear(4, 8), torch.nn.Linear(4, 8)])
    model[1].weight = model[0].weight
    narrow(model)
    assert [one.weight.dtype for one in model] == [torch.float32, torch.float32, torch.bfloat16]
    assert model[1].weight is model[0].weight


@pytest.mark.parametrize("rows", [1, 3])
def test_a_large_weight_is_widened_in_blocks_to_the_same_product(monkeypatch, rows):
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 100)
    narrow(model := torch.nn.Sequential(layer))
    assert type(model[0]) is NarrowLinear
    inputs = torch.randn(rows, 32)
    whole = model(inputs)
    monkeypatch.setattr("stoker.models.narrow._WHOLE", 0)
    monkeypatch.setattr("stoker.models.narrow._BLOCK", 7 * 32)
    assert torch.allclose(model(inputs), whole, atol=1e-6)
    expected = torch.nn.functional.linear(inputs, layer.weight.float(), layer.bias)
    assert torch.allclose(whole, expected, atol=1e-6 if rows > 1 else 0.02)
