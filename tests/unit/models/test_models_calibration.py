"""The texts that gptq and awq calibrate on: checked, shown to the model, told apart afterwards."""

import importlib.util
import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("torchao")

import torch
import transformers
from kernels import Kernels
from tiny import bert, llama

from stoker.models import calibration, seen_texts
from stoker.models.device import Target
from stoker.models.load import load, load_module
from stoker.models.prepare import prepare
from stoker.models.quantize import calibrated, make
from stoker.models.quantize.linears import INT4_GROUP, SCHEMES, Int4Linear, levels_of
from stoker.models.recipe import choose
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]
METHODS = ["awq"]
if importlib.util.find_spec("neural_compressor"):
    METHODS.append("gptq")
LINES = [
    " ".join(
        ("the", "ball", "vote", "and", ".")[(start * step) % 5] for step in range(2, 4 + start)
    )
    for start in range(20)
]


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "h")


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES))
    return path


def declare(folder, quantization, texts="", task="text-generation", **env):
    return ModelSettings.read(
        {
            "STOKER_MODEL": str(folder), "STOKER_QUANTIZATION": quantization, "STOKER_TASK": task,
            "STOKER_CALIBRATION": str(texts),
        }
        | {f"STOKER_{name}": value for name, value in env.items()}
    )  # fmt: skip


def quiet(_line):
    return None


@pytest.mark.parametrize("method", METHODS)
def test_a_calibrated_model_read_back_says_nearly_what_it_said(tmp_path, home, texts, method):
    folder = llama(tmp_path / "llama")
    told = []
    result = prepare(declare(folder, method, texts), home, told.append)
    module = load_module(result.folder, result.manifest, declare(folder, method, texts))
    original = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([[2, 3, 5, 4, 6]])
    with torch.inference_mode():
        found, expected = module(input_ids=ids).logits.float(), original(input_ids=ids).logits
    assert (found - expected).norm() / expected.norm() < 0.3
    live = {name for name, one in module.named_modules() if isinstance(one, Int4Linear)}
    assert live == set(result.manifest.replaced)
    assert len(live) == 14
    assert any("layers.0" in line for line in told), "no progress between the blocks"
    assert any("layers.1" in line for line in told)


def test_scales_are_tried_on_the_weight_that_is_left_and_without_the_kernel_for_int4():
    """Which is for few rows; a search shows thousands to each of twenty scales."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 64, bias=False)
    tensors, packed = make.rounded(linear, "cpu")
    layer = SCHEMES["int4"](linear, tensors, packed=packed)
    with torch.inference_mode():
        left = layer(torch.eye(128)).T
    assert (make.as_rounded(linear.weight.detach()) - left).norm() < 0.01 * left.norm()
    search = calibrated.Awq(linear)
    search.see(torch.randn(40, 128))
    with torch.inference_mode(), Kernels() as kernels:
        search.made("cpu")
    assert kernels.seen.keys() & {"mm", "linear"}
    assert not [name for name in kernels.seen if name.startswith("_weight_int4pack_mm")]


@pytest.mark.parametrize("method", METHODS)
def test_calibrating_on_what_a_layer_sees_beats_rounding(tmp_path, home, method):
    """Inputs with a few large columns, as those of real models have them."""
    from stoker.models.quantize import calibrated

    torch.manual_seed(1)
    linear = torch.nn.Linear(128, 64, bias=False)
    inputs = torch.randn(1024, 24) @ torch.randn(24, 128) + torch.randn(1024, 128)
    inputs[:, ::32] *= 20
    watched = calibrated._METHODS[method](linear)
    watched.see(inputs[:512])
    exact = torch.nn.functional.linear(inputs[512:], linear.weight)

    def error(tensors, packed):
        made = calibrated.SCHEMES[method if "pre_scale" in tensors else "int4"]
        return (made(linear, tensors, packed=packed)(inputs[512:]) - exact).norm()

    assert error(*watched.made("cpu")) < 0.9 * error(*make.rounded(linear, "cpu"))


@pytest.mark.parametrize("method", METHODS)
def test_an_encoder_with_a_head_is_calibrated(tmp_path, home, texts, method):
    folder = bert(tmp_path / "m", "BertForSequenceClassification")
    settings = declare(folder, method, texts, "text-classification")
    result = prepare(settings, home, quiet)
    assert result.manifest.fidelity.measure == "distance"
    assert "classifier" in result.manifest.skipped
    answer = load(settings, home)(["the ball and the vote ."])
    assert sum(one["score"] for one in answer[0]) == pytest.approx(1, abs=1e-3)


def test_the_manifest_says_what_was_shown_and_every_text_leaves_its_fingerprint(
    tmp_path, home, texts
):
    texts.write_text("\n".join([*LINES, "", "  ", LINES[0], "the  vote"]))
    result = prepare(declare(llama(tmp_path / "m"), "awq", texts), home, quiet)
    facts = result.manifest.calibration
    assert facts.texts == 21
    assert facts.used == 21
    assert facts.tokens > 21
    seen = seen_texts.seen(result.folder)
    assert len(seen) == 21
    assert seen_texts.fingerprint("the vote ") in seen
    assert seen_texts.fingerprint("a text of the judgement") not in seen
    assert json.loads((result.folder / "manifest.json").read_text())["calibration"]["digest"]


def test_a_model_that_was_not_calibrated_has_no_fingerprints(tmp_path, home):
    result = prepare(declare(llama(tmp_path / "m"), "int4"), home, quiet)
    assert result.manifest.calibration is None
    assert seen_texts.seen(result.folder) == frozenset()


def test_other_texts_make_another_checkpoint_and_the_same_ones_none(tmp_path, home, texts):
    settings = declare(llama(tmp_path / "m"), "awq", texts)
    first = prepare(settings, home, quiet)
    assert not prepare(settings, home, quiet).built
    assert load(settings, home).folder == first.folder
    texts.write_text("\n".join([*LINES, "vote and vote and vote"]))
    assert prepare(settings, home, quiet).folder != first.folder


def test_texts_may_lie_in_a_package(tmp_path, monkeypatch):
    (tmp_path / "mytexts" / "data").mkdir(parents=True)
    (tmp_path / "mytexts" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "mytexts" / "data" / "all.txt").write_text("\n".join(LINES))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert len(calibration.read("package://mytexts/data/all.txt").lines) == 20
    with pytest.raises(UnusableModel, match=r"STOKER_CALIBRATION .*'mytexts' has no"):
        calibration.read("package://mytexts/data/none.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read \(No such file or directory\); must be a file of texts"),
        (b"", "must have at least 16 different texts, one a line, has 0"),
        (b"\n".join([b"one text"] * 40), "has 1"),
        (b"\n".join(b"text \xff %d" % n for n in range(30)), "must be UTF-8"),
    ],
)
def test_texts_that_cannot_calibrate_are_refused(texts, content, message):
    if content is None:
        texts.unlink()
    else:
        texts.write_bytes(content)
    with pytest.raises(UnusableModel, match=message):
        calibration.read(str(texts))


def test_a_folder_is_no_file_of_texts(tmp_path):
    with pytest.raises(UnusableModel, match="must be a file of texts"):
        calibration.read(str(tmp_path))


@pytest.mark.parametrize("device", [Target("cpu"), Target("cuda", (9, 0))])
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_without_texts_the_error_says_what_to_give(method, device):
    with pytest.raises(UnusableModel, match=r"STOKER_CALIBRATION must name a file .*'int4'"):
        choose(declare("m", method), device)


def test_a_task_without_texts_cannot_be_calibrated(texts):
    with pytest.raises(UnusableModel, match=r"image-classification takes none.*'int4'"):
        choose(declare("m", "awq", texts, "image-classification"), Target("cpu"))


def test_a_layer_that_no_text_reaches_is_named(tmp_path, home, texts, monkeypatch):
    from stoker.models.quantize import plan

    real = plan.plan

    def with_another(model, *args, **more):
        model.model.layers[0].unused = torch.nn.Linear(64, 64, dtype=torch.bfloat16)
        return real(model, *args, **more)

    monkeypatch.setattr(plan, "plan", with_another)
    with pytest.raises(UnusableModel, match=r"reaches model\.layers\.0\.unused"):
        prepare(declare(llama(tmp_path / "m"), "awq", texts), home, quiet)
    assert not list(home.models.glob("*/manifest.json"))


@pytest.mark.parametrize("method", ["int4", *METHODS])
def test_what_is_made_for_a_card_is_made_and_compared_without_one(
    tmp_path, home, texts, method, monkeypatch
):
    """The build step runs where no card may be: the layout on disk fits any device."""
    monkeypatch.setenv("STOKER_BUILD_DEVICE", "cuda:9.0")
    given = "" if method == "int4" else texts
    result = prepare(declare(llama(tmp_path / "m"), method, given), home, quiet)
    assert result.manifest.device == "cuda"
    assert result.manifest.fidelity.mean < 2.5
    module = load_module_on_cpu(result)
    layer = module.model.layers[0].mlp.up_proj
    assert not layer.packed
    assert layer.qdata.shape == (128, 32)
    assert levels_of(layer.qdata).shape == (128, 64)
    assert layer.scale_and_zero.shape == (64 // INT4_GROUP, 128, 2)


def load_module_on_cpu(result):
    from stoker.models.prepared import open_module

    return open_module(result.folder, result.manifest)


def test_both_layouts_of_int4_are_the_same_weights():
    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 32, bias=False)
    rows = torch.randn(5, 128)
    answers = []
    for device in ("cpu", "cuda"):
        tensors, packed = make.rounded(linear, device)
        assert packed is (device == "cpu")
        answers.append(Int4Linear(linear, tensors, packed=packed)(rows))
    torch.testing.assert_close(*answers)
