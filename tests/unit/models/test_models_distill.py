"""A small student taught by its teacher: nearer to it than before, on texts it has not seen."""

import hashlib
import itertools
import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import tiny_tasks
from stoker.models.compress import lessons
from stoker.models.compress.objectives import Features, SoftLabels
from stoker.models.load import load
from stoker.models.prepare import prepare
from stoker.models.prepared import open_module
from stoker.models.recipe import choose
from stoker.models.seen_texts import fingerprint, seen
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore")]
SENTENCES = [
    f"{a} {b} {c} {d}"
    for a, b, c, d in itertools.product(
        ("the", "a"), ("good cat", "bad dog", "very bad cat"), ("sat", "ran"),
        ("on the tree", "under a tree", "not under the dog", "very good"),
    )
]  # fmt: skip
GENERATION = {"STOKER_TASK": "text-generation", "STOKER_DISTILL": "soft-labels,steps=40,rate=0.01"}
CLASSES = {
    "STOKER_TASK": "text-classification",
    "STOKER_DISTILL": "soft-labels,steps=40,rate=0.01",
}


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "h")


@pytest.fixture
def encoder(tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    tiny_tasks.bert(folder, "BertModel")
    return folder


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(SENTENCES) + "\n")
    return file


def declare(folder, texts, **more):
    env = {
        "STOKER_MODEL": str(folder),
        "STOKER_PRUNE": "layers:1",
        "STOKER_DISTILL": "features,steps=40,rate=0.003",
        "STOKER_DISTILL_DATA": str(texts),
    }
    return ModelSettings.read(env | more)


def made(folder, texts, home, **more):
    said = []
    return prepare(declare(folder, texts, **more), home, said.append), said


def weights(prepared):
    return open_module(prepared.folder, prepared.manifest).state_dict()


def test_a_student_of_features_is_nearer_to_its_teacher_than_before(encoder, texts, home):
    prepared, said = made(encoder, texts, home)
    taught = prepared.manifest.distilled
    assert (taught.steps, taught.texts, taught.held_out.texts) == (40, 40, 8)
    assert taught.held_out.measure == "cosine"
    assert taught.held_out.after > taught.held_out.before + 0.1
    assert taught.loss_last < 0.7 * taught.loss_first
    assert sum(line.startswith("step ") for line in said) == 10
    assert prepared.manifest.pruned.layers_kept == [0]


@pytest.mark.parametrize("kind", ["llama", "classes"])
def test_a_student_of_soft_labels_is_nearer_to_its_teacher_than_before(tmp_path, texts, home, kind):
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "llama":
        tiny_tasks.llama(folder)
    else:
        tiny_tasks.bert(folder, "BertForSequenceClassification", num_labels=3)
    prepared, _ = made(folder, texts, home, **(GENERATION if kind == "llama" else CLASSES))
    held = prepared.manifest.distilled.held_out
    assert held.measure == "divergence"
    assert held.after < 0.7 * held.before
    config = json.loads((prepared.folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 1


def test_zeros_stay_zero_while_the_rest_is_taught(encoder, texts, home):
    prepared, _ = made(encoder, texts, home, STOKER_PRUNE="2:4")
    fours = weights(prepared)["encoder.layer.1.output.dense.weight"].reshape(-1, 4)
    assert ((fours == 0).sum(1) == 2).all()
    assert prepared.manifest.pruned.sparsity == 0.5
    assert prepared.manifest.distilled.loss_last < prepared.manifest.distilled.loss_first


def test_the_same_seed_gives_the_same_student(encoder, texts, tmp_path):
    torch.set_num_threads(1)
    told = [
        weights(made(encoder, texts, Home.at(tmp_path / name), STOKER_DISTILL=how)[0])
        for name, how in (
            ("a", "features,steps=8,seed=1"),
            ("b", "features,steps=8,seed=1"),
            ("c", "features,steps=8,seed=2"),
        )
    ]
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(told[0][name], told[1][name])
    assert not torch.equal(told[0][name], told[2][name])


def test_the_teacher_s_own_file_is_left_as_it_was(encoder, texts, home):
    """Weights are mapped from it, privately, and the optimiser changes them in place."""
    file = encoder / "model.safetensors"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    made(encoder, texts, home, STOKER_PRUNE="magnitude:0.2")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_a_student_is_quantized_by_onnx_runtime(encoder, texts, home):
    prepared, said = made(encoder, texts, home, STOKER_QUANTIZATION="int8")
    assert prepared.manifest.backend == "onnxruntime"
    assert any(line.startswith("quantized beside unquantized") for line in said)
    whole = made(encoder, texts, home, STOKER_QUANTIZATION="none")[0].manifest
    assert prepared.manifest.fidelity.mean == pytest.approx(whole.fidelity.mean, abs=0.02)


def test_another_model_may_be_the_student(encoder, texts, home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    module = tiny_tasks.bert(other, "BertModel")
    torch.manual_seed(1)
    for one in module.parameters():
        one.data += 0.2 * torch.randn_like(one)
    module.save_pretrained(other)
    more = {"STOKER_PRUNE": "", "STOKER_DISTILL_STUDENT": str(other)}
    prepared, _ = made(encoder, texts, home, **more)
    held = prepared.manifest.distilled.held_out
    assert held.after > held.before
    assert prepared.manifest.distilled.student == str(other)
    assert prepared.manifest.pruned is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": 16}, "has 16 numbers in a vector, and STOKER_MODEL, whose place it takes"),
        ({"vocab_size": 90}, "has 90 tokens, and STOKER_MODEL"),
    ],
)
def test_a_student_that_cannot_take_its_place_is_refused(
    encoder, texts, home, tmp_path, config, message
):
    import transformers

    other = tmp_path / "other"
    other.mkdir()
    tiny_tasks.word_tokenizer(other)
    own = json.loads((encoder / "config.json").read_text()) | config
    transformers.BertModel(transformers.BertConfig(**own)).save_pretrained(other)
    with pytest.raises(UnusableModel, match=message):
        made(encoder, texts, home, STOKER_PRUNE="", STOKER_DISTILL_STUDENT=str(other))


def test_a_student_of_another_vocabulary_is_refused(encoder, texts, home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tiny_tasks.bert(other, "BertModel")
    held = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(held.replace('"tree"', '"bush"'))
    with pytest.raises(UnusableModel, match="has another vocabulary"):
        made(encoder, texts, home, STOKER_PRUNE="", STOKER_DISTILL_STUDENT=str(other))


def test_a_student_that_is_not_there_is_named_by_its_own_variable(encoder, texts, home):
    with pytest.raises(UnusableModel, match="STOKER_DISTILL_STUDENT: there is no folder"):
        made(encoder, texts, home, STOKER_DISTILL_STUDENT="/nowhere/at/all")


def test_the_texts_that_were_seen_are_noted_beside_the_checkpoint(encoder, texts, home):
    prepared, _ = made(encoder, texts, home, STOKER_DISTILL="features,steps=1")
    noted = seen(prepared.folder)
    assert len(noted) == len(SENTENCES)
    assert fingerprint(f"  {SENTENCES[0].upper()} ") in noted
    assert fingerprint("a text of the judgement") not in noted
    held = json.loads((prepared.folder / "calibration.json").read_text())
    assert held.keys() == {"texts", "digest", "lines"}
    assert held["texts"] == len(held["lines"])


def test_other_texts_make_another_checkpoint(encoder, texts, home):
    how = {"STOKER_DISTILL": "features,steps=1"}
    first, _ = made(encoder, texts, home, **how)
    assert not made(encoder, texts, home, **how)[0].built
    texts.write_text(texts.read_text() + "a tree ran\n")
    assert load(declare(encoder, texts, **how), home).folder != first.folder


def test_a_wake_needs_no_texts(encoder, texts, home):
    how = {"STOKER_DISTILL": "features,steps=1"}
    first, _ = made(encoder, texts, home, **how)
    texts.unlink()
    assert load(declare(encoder, texts, **how), home).folder == first.folder


def test_a_rate_that_is_too_high_is_said(encoder, texts, home):
    with pytest.raises(UnusableModel, match=r"the loss is nan at step \d+; take a lower rate"):
        made(encoder, texts, home, STOKER_DISTILL="features,steps=9,rate=1e30")


def test_a_student_that_learnt_by_heart_is_measured_on_what_it_has_not_seen(texts):
    taught, held = lessons.read(str(texts)).split(seed=0)
    assert set(taught).isdisjoint(held)
    assert sorted([*taught, *held]) == sorted(SENTENCES)
    assert lessons.read(str(texts)).split(seed=0) == (taught, held)


def test_every_text_is_shown_as_often_as_the_others():
    shown = list(itertools.islice(lessons.batches("abcde", 2, seed=0), 6))
    assert [len(one) for one in shown] == [2, 2, 1, 2, 2, 1]
    assert sorted(itertools.chain(*shown)) == sorted("abcde" * 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo\n", "must have at least 32 different texts, one a line, has 2"),
        (b"The  cat\nthe cat\n" * 40, "has 1"),
        (b"\xff\n" * 40, "must be UTF-8, one text a line"),
        (None, r"cannot be read \(No such file"),
    ],
)
def test_texts_that_teach_nothing_are_refused(tmp_path, content, message):
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UnusableModel, match=f"STOKER_DISTILL_DATA: .*{message}"):
        lessons.read(str(file))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"STOKER_DISTILL": ""}, "STOKER_DISTILL_DATA is for STOKER_DISTILL, which is not set"),
        ({"STOKER_PRUNE": ""}, "has no student: set STOKER_PRUNE"),
        ({"STOKER_DISTILL_DATA": ""}, "STOKER_DISTILL_DATA must name a file"),
        ({"STOKER_DISTILL": "soft-labels"}, "the nearest that works is 'features'"),
        (
            {"STOKER_TASK": "text-generation"},
            "does not teach text-generation; the nearest that works is 'soft-labels'",
        ),
        ({"STOKER_TASK": "image-classification"}, "teaches on texts, and image-classification"),
    ],
)
def test_a_declaration_that_would_do_nothing_is_refused(more, message):
    with pytest.raises(UnusableModel, match=message):
        choose(declare("/m", "/t", **more))


class Said:
    """A module that says what it is told to."""

    def __init__(self, **answer):
        self._answer = answer

    def __call__(self, **_):
        return type("Output", (), self._answer)


def test_each_layer_that_stays_learns_what_the_next_one_was_given():
    mask = torch.ones(1, 2, dtype=torch.long)
    states = torch.randn(7, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    kept = (0, 2, 3, 5)
    student = Said(hidden_states=[states[index] for index in (0, 2, 3, 5, 6)])
    objective = Features("mean", kept)
    inputs = {"attention_mask": mask}
    teacher = Said(hidden_states=list(states))
    assert float(objective.loss(teacher, student, inputs)) == pytest.approx(0, abs=1e-6)
    wrong = Said(hidden_states=[states[index] for index in (0, 1, 3, 5, 6)])
    assert float(objective.loss(teacher, wrong, inputs)) > 0.1


def test_padding_is_not_learnt():
    mask = torch.tensor([[1, 1, 0]])
    theirs, ours = torch.zeros(1, 3, 5), torch.zeros(1, 3, 5)
    ours[0, 2] = torch.arange(5.0)
    inputs = {"attention_mask": mask}
    objective = SoftLabels(2.0)
    assert float(objective.loss(Said(logits=theirs), Said(logits=ours), inputs)) == 0
    ours[0, 1] = torch.arange(5.0)
    assert float(objective.loss(Said(logits=theirs), Said(logits=ours), inputs)) > 0.1
