"""LoRA adapters: chosen per request, several over one base model."""

import copy

import numpy as np
import peft
import pytest
import tiny
import torch
import transformers

import tiny_tasks
from stoker.models import resting
from stoker.models.load import load
from stoker.models.tasks import as_task, open_task
from stoker.nouns.errors import BadRequest, UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings, Quantization, Task

pytestmark = [
    pytest.mark.models,
    # peft asks transformers by a name that is going away.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
]
TEXTS = ["the cat sat", "a very good dog ran under the tree"]


def save_adapter(base, folder, seed, *, task_type="SEQ_CLS"):
    """A random adapter of a copy of ``base``; the copy with the adapter merged into its weights."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=4, lora_alpha=16, target_modules=["query", "value"], task_type=task_type,
        init_lora_weights=False,
    )  # fmt: skip
    wrapped = peft.get_peft_model(copy.deepcopy(base), config)
    wrapped.save_pretrained(folder)
    return wrapped.merge_and_unload().eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    base = tiny_tasks.bert(folder, "BertForSequenceClassification", num_labels=3)
    plain = opened(copy.deepcopy(base), folder)
    merged = {
        name: opened(save_adapter(base, folder / name, seed), folder)
        for seed, name in enumerate(("legal", "medical"))
    }
    adapters = {name: str(folder / name) for name in merged}
    return opened(base, folder, adapters), plain, merged


def opened(module, folder, adapters=None):
    settings = ModelSettings(task=Task.TEXT_CLASSIFICATION, adapters=adapters or {})
    return open_task(module, folder, tiny_tasks.manifest(Task.TEXT_CLASSIFICATION), settings)


def scores(results):
    return [{one["label"]: pytest.approx(one["score"], abs=1e-5) for one in row} for row in results]


def plainly(results):
    return [{one["label"]: one["score"] for one in row} for row in results]


def test_a_request_s_adapter_gives_what_the_merged_model_gives(made):
    model, plain, merged = made
    for name, other in merged.items():
        assert plainly(model(TEXTS, {"adapter": name})) == scores(other(TEXTS))
    assert plainly(model(TEXTS)) == scores(plain(TEXTS))
    answers = [plainly(one(TEXTS)) for one in (plain, *merged.values())]
    assert answers[0] != answers[1] != answers[2]


def test_an_adapter_leaves_nothing_behind(made):
    model, plain, merged = made
    for name in ("legal", "", "medical", "legal", ""):
        expected = merged[name] if name else plain
        assert plainly(model(TEXTS, {"adapter": name})) == scores(expected(TEXTS))


def test_an_unknown_adapter_is_refused_with_the_names_there_are(made):
    with pytest.raises(BadRequest, match="no adapter 'law'; there are legal, medical"):
        made[0](TEXTS, {"adapter": "law"})


def test_a_folder_that_is_no_adapter_is_refused(made, tmp_path):
    with pytest.raises(UnusableModel, match=r"STOKER_ADAPTER 'x': .* has no adapter_config.json"):
        opened(made[1]._module, made[1].folder, {"x": str(tmp_path)})


def test_an_adapter_of_another_model_is_refused(made, tmp_path):
    other = tiny_tasks.llama(tmp_path / "llama")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(other, config).save_pretrained(tmp_path / "other")
    with pytest.raises(UnusableModel, match="does not fit the model"):
        opened(copy.deepcopy(made[1]._module), made[1].folder, {"x": str(tmp_path / "other")})


def test_a_text_is_written_with_an_adapter_too(tmp_path):
    base = tiny_tasks.llama(tmp_path)
    torch.manual_seed(5)
    config = peft.LoraConfig(
        r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    wrapped = peft.get_peft_model(copy.deepcopy(base), config)
    wrapped.save_pretrained(tmp_path / "style")
    task = Task.TEXT_GENERATION

    def opened_with(module, adapters):
        settings = ModelSettings(task=task, adapters=adapters)
        return open_task(module, tmp_path, tiny_tasks.manifest(task), settings)

    merged = opened_with(wrapped.merge_and_unload().eval(), {})
    model = opened_with(base, {"style": str(tmp_path / "style")})
    wish = {"max_new_tokens": 10}
    expected = merged(["hello"], wish)
    assert model(["hello"], wish | {"adapter": "style"}) == expected
    assert model(["hello"], wish) != expected
    pieces = tiny_tasks.pieces_of(model, "hello", wish | {"adapter": "style"})
    assert "".join(piece.text for piece in pieces) == expected[0]["generated_text"]


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A language model with two adapters, of different layers, by any quantization."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "model").mkdir()
    tiny.llama(folder / "model")
    adapters = {}
    for seed, targets in enumerate((["q_proj", "v_proj"], ["o_proj", "q_proj"])):
        torch.manual_seed(seed)
        base = transformers.LlamaForCausalLM.from_pretrained(folder / "model")
        config = peft.LoraConfig(
            r=4, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False
        )
        name = "-".join(targets)
        peft.get_peft_model(base, config).save_pretrained(folder / name)
        adapters[name] = str(folder / name)

    def by(quantization):
        return load(
            ModelSettings(
                model=str(folder / "model"),
                task=Task.TEXT_GENERATION,
                quantization=quantization,
                adapters=adapters,
            ),
            Home.at(folder / "h"),
        )

    return by


def logits(model, adapter):
    ids = torch.tensor([[2, 3, 5, 4]])
    with torch.inference_mode(), model.adapters.using(adapter):
        return model._writer._module(input_ids=ids).logits.float()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantization", ["int8", "nf4", "int4"])
def test_adapters_lie_over_quantized_layers_too(writer, quantization):
    """Each worker failed: peft knew none of the layers that are not torch's own."""
    exact, quantized = writer(Quantization.FP32), writer(Quantization(quantization))
    names = quantized.adapters.names
    assert len(names) == 2
    for name in names:
        moved = logits(exact, name) - logits(exact, "")
        error = (logits(quantized, name) - logits(quantized, "")) - moved
        assert error.norm() < 0.5 * moved.norm()
    assert not torch.equal(logits(quantized, names[0]), logits(quantized, names[1]))


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_sleeps_takes_its_adapters_off_the_card(writer, monkeypatch):
    """It was noted what leaves before the adapters came, which then stayed."""
    leaving = []
    monkeypatch.setattr(
        resting,
        "leaves_its_card",
        lambda module, name: leaving.extend(dict(module.named_parameters())),
    )
    writer(Quantization.FP32)
    assert any("lora_A" in name for name in leaving)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantization", ["fp32", "bf16", "nf4"])
def test_a_text_s_vector_is_by_the_adapter_that_is_asked_for(tmp_path, quantization):
    """It was refused for feature-extraction."""
    (tmp_path / "model").mkdir()
    tiny.bert(tmp_path / "model")
    merged, adapters = {}, {}
    for seed, name in enumerate(("legal", "medical")):
        base = transformers.BertModel.from_pretrained(tmp_path / "model")
        merged[name] = save_adapter(base, tmp_path / name, seed, task_type="FEATURE_EXTRACTION")
        merged[name].save_pretrained(tmp_path / f"{name}-merged")
        tiny.save_tokenizer(tmp_path / f"{name}-merged")
        adapters[name] = str(tmp_path / name)

    def vectors(folder, chosen=None, adapter=""):
        settings = ModelSettings(
            model=str(tmp_path / folder),
            task=Task.FEATURE_EXTRACTION,
            quantization=Quantization(quantization),
            adapters=chosen or {},
        )
        model = models.setdefault(
            (folder, bool(chosen)), as_task(load(settings, Home.at(tmp_path / "h")))
        )
        rows = model(["the ball and the vote", "vote ."], {"adapter": adapter})
        if adapter == "legal":
            # Not what was asked for last: what is asked for now.
            assert np.allclose(model.encode(["vote ."], adapter)[0], rows[1], atol=1e-5)
            assert not np.allclose(model.encode(["vote ."])[0], rows[1], atol=1e-3)
        return np.array(rows)

    models = {}
    plain = vectors("model")
    loose = 1e-5 if quantization == "fp32" else 0.06
    for name in ("legal", "", "medical", "legal"):
        found = vectors("model", adapters, name)
        expected = vectors(f"{name}-merged") if name else plain
        if quantization != "nf4":  # which rounds the merged weights anew
            assert np.allclose(found, expected, atol=loose)
        assert np.allclose(found, plain, atol=1e-5) == (not name)
    assert not np.allclose(
        vectors("model", adapters, "legal"), vectors("model", adapters, "medical")
    )
    with pytest.raises(BadRequest, match="no adapter 'law'"):
        vectors("model", adapters, "law")
