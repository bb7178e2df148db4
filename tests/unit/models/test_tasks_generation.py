"""Text generation: batches, streams, chats, budgets."""

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import tiny_tasks
from stoker.models.tasks import open_task
from stoker.models.tasks.generating import Writer
from stoker.models.tasks.reading import Reading
from stoker.models.tasks.steps import at_once
from stoker.models.tasks.writing import Writing, _unsure
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import ModelSettings, Task

pytestmark = pytest.mark.models
PROMPTS = ["hello", "a much longer prompt than that", "hi there"]
CHAT = [{"role": "user", "content": "hey"}]


def opened(folder, **more):
    module = tiny_tasks.llama(folder, **more)
    settings = ModelSettings(task=Task.TEXT_GENERATION)
    return open_task(module, folder, tiny_tasks.manifest(Task.TEXT_GENERATION), settings)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("llama"))


def streamed(model, prompt, parameters):
    return tiny_tasks.pieces_of(model, prompt, parameters)


def test_it_writes_what_transformers_pipeline_writes(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.folder)
    pipeline = transformers.pipeline(
        "text-generation", model=model._writer._module, tokenizer=tokenizer
    )
    for prompt in PROMPTS:
        theirs = pipeline(prompt, max_new_tokens=12, do_sample=False)
        ours = model([prompt], {"max_new_tokens": 12, "return_full_text": True})
        assert ours[0]["generated_text"] == theirs[0]["generated_text"]


def test_a_prompt_gets_the_same_answer_in_a_batch_and_alone(model):
    together = model(PROMPTS, {"max_new_tokens": 12})
    assert together == [model([prompt], {"max_new_tokens": 12})[0] for prompt in PROMPTS]
    assert len({one["generated_text"] for one in together}) == 3


def test_a_score_is_the_loss_that_transformers_has_for_the_text(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.folder)
    texts = [PROMPTS[1], "hi"]
    for text, scored in zip(texts, model(texts, {"score": True}), strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            loss = model._writer._module(input_ids=ids, labels=ids).loss
        assert scored["tokens"] == ids.shape[1] - 1 > 0
        assert -scored["log_probability"] / scored["tokens"] == pytest.approx(loss.item(), rel=1e-4)


def test_a_score_is_no_tensor(model):
    with pytest.raises(BadRequest, match="plain JSON"):
        model.tensors_from(model(["hello"], {"score": True}))


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_new_tokens": 13},
        {"max_new_tokens": 1},
        {"max_new_tokens": 13, "temperature": 1.4, "seed": 5},
        {"max_new_tokens": 13, "temperature": 2.0, "seed": 5, "top_p": 0.8, "top_k": 20},
    ],
)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_stream_is_the_whole_answer_in_pieces(model, prompt, parameters):
    pieces = streamed(model, prompt, parameters)
    (whole,) = model([prompt], parameters)
    assert "".join(piece.text for piece in pieces) == whole["generated_text"]
    assert [piece.finish_reason for piece in pieces][-1] == whole["finish_reason"]
    assert not any(piece.finish_reason for piece in pieces[:-1])
    assert pieces[-1].tokens == whole["generated_tokens"]
    if parameters["max_new_tokens"] > 4:
        assert len(pieces) > 1


def test_a_seed_gives_the_same_text_whoever_asks_beside_it(model):
    seeded = {"max_new_tokens": 12, "temperature": 1.5, "seed": 11}
    alone = model(["hello"], seeded)[0]
    assert model(["hi there", "hello"], seeded)[1] == alone
    assert model(["hello"], seeded | {"seed": 12})[0] != alone


def test_a_seed_leaves_the_randomness_of_others_as_it_was(model):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model(["hello"], {"max_new_tokens": 4, "temperature": 1.5, "seed": 11})
    assert torch.equal(torch.rand(3), expected)


def test_it_ends_before_a_stop_text(model):
    whole = model(["hello"], {"max_new_tokens": 12})[0]["generated_text"]
    stop = whole[2:4]
    (cut,) = model(["hello"], {"max_new_tokens": 12, "stop": stop})
    assert cut["generated_text"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"
    assert cut["generated_tokens"] < 12
    pieces = streamed(model, "hello", {"max_new_tokens": 12, "stop": [stop]})
    assert "".join(piece.text for piece in pieces) == cut["generated_text"]
    assert pieces[-1].finish_reason == "stop"


def test_one_that_stops_early_leaves_its_neighbours_to_go_on(model):
    whole = model(PROMPTS, {"max_new_tokens": 12})
    stop = whole[0]["generated_text"][2:4]
    assert all(stop not in one["generated_text"] for one in whole[1:])
    cut = model(PROMPTS, {"max_new_tokens": 12, "stop": [stop]})
    assert cut[0]["finish_reason"] == "stop"
    assert cut[1:] == whole[1:]


def test_the_start_of_a_stop_text_is_not_given_away():
    assert _unsure("and so", ["so on"]) == 2
    assert _unsure("and s", ["so on", "nothing"]) == 1
    assert _unsure("and", ["so on"]) == 0
    assert _unsure("half a letter \ufffd", []) == 1


def test_its_own_end_is_a_stop(model, monkeypatch):
    token = model._writer._tokenizer(model(["hello"], {"max_new_tokens": 1})[0]["generated_text"])
    monkeypatch.setattr(model._writer, "_ends", frozenset(token["input_ids"]))
    (result,) = model(["hello"], {"max_new_tokens": 9})
    assert (result["finish_reason"], result["generated_tokens"]) == ("stop", 1)
    assert streamed(model, "hello", {"max_new_tokens": 9})[-1].finish_reason == "stop"


def test_a_chat_goes_through_the_model_s_template(model):
    expected = model(["<user> hey </s> <assistant>"], {"max_new_tokens": 6})
    for chat in (CHAT, {"messages": CHAT}):
        assert model([chat], {"max_new_tokens": 6}) == expected


def test_a_list_of_messages_is_one_input_and_a_list_of_texts_several(model):
    assert model.inputs_of("hello") is None
    assert model.inputs_of(CHAT) is None
    assert model.inputs_of({"messages": CHAT}) is None
    assert model.inputs_of(PROMPTS) == PROMPTS
    assert model.inputs_of([CHAT, CHAT]) == [CHAT, CHAT]
    assert model.inputs_of([{"messages": CHAT}]) == [{"messages": CHAT}]


def test_a_model_without_a_template_takes_no_chat(tmp_path):
    with pytest.raises(BadRequest, match="no chat template"):
        opened(tmp_path, chat=False)([CHAT])


@pytest.mark.parametrize("value", [3, [], [{"role": "user"}], {"messages": "hey"}, {}])
def test_what_is_neither_text_nor_chat_is_refused(model, value):
    with pytest.raises(BadRequest, match="must be a text, or a chat"):
        model([value])


def test_an_empty_text_is_refused(model):
    with pytest.raises(BadRequest, match="empty text"):
        model([""])


def test_more_tokens_than_the_context_are_refused_with_the_numbers(model):
    with pytest.raises(BadRequest) as caught:
        model(["x" * 90], {"max_new_tokens": 7})
    assert "90 tokens and 7 may be written: 97 in all, the model's context is 96" in str(
        caught.value
    )
    assert caught.value.detail == {"prompt_tokens": 90, "max_new_tokens": 7, "limit": 96}
    assert model(["x" * 90], {"max_new_tokens": 6})[0]["generated_tokens"] == 6


def test_without_a_wish_it_writes_as_much_as_there_is_room_for(model):
    texts = ["x" * 90, "hello"]
    results = model(texts)
    assert [one["generated_tokens"] for one in results] == [6, 91]
    with pytest.raises(BadRequest, match="96 tokens and 1 may be written"):
        model(["x" * 96])


def forwards(model, monkeypatch):
    """How many rows each call of the network has."""
    calls, forward = [], model._writer._module.forward

    def counted(*args, **more):
        calls.append(len(more["input_ids"]))
        return forward(*args, **more)

    monkeypatch.setattr(model._writer._module, "forward", counted)
    return calls


def test_a_text_that_is_left_ends_there_and_costs_its_neighbours_nothing_more(model, monkeypatch):
    expected = model(PROMPTS, {"max_new_tokens": 12})
    calls = forwards(model, monkeypatch)
    options = model.options({"max_new_tokens": 12})
    items = [model.read(prompt, options) for prompt in PROMPTS]
    steps = model.run_in_steps(items, options)
    next(steps)
    next(steps)
    model.leave(items[1])
    results = at_once(steps)
    assert calls == [3, 3] + [2] * 10
    assert [results[0], results[2]] == [expected[0], expected[2]]


def test_when_all_are_left_not_one_more_token_is_computed(model, monkeypatch):
    calls = forwards(model, monkeypatch)
    options = model.options({"max_new_tokens": 40})
    items = [model.read(prompt, options) for prompt in PROMPTS]
    steps = model.run_in_steps(items, options)
    next(steps)
    for item in items:
        model.leave(item)
    at_once(steps)
    assert calls == [3]


def test_where_a_cache_cannot_be_taken_apart_all_rows_go_on_to_the_last(model, monkeypatch):
    lengths = (3, 12, 7)
    prompts = list(zip(PROMPTS, lengths, strict=True))
    alone = [model([prompt], {"max_new_tokens": count})[0] for prompt, count in prompts]
    monkeypatch.delattr(transformers.Cache, "reorder_cache")
    calls = forwards(model, monkeypatch)
    items = [model.read(one, model.options({"max_new_tokens": count})) for one, count in prompts]
    assert model.run(items, model.options({})) == alone
    assert calls == [3] * 12


def test_texts_of_different_lengths_are_written_together_and_each_ends_by_itself(
    model, monkeypatch
):
    lengths = (3, 12, 7)
    alone = [
        model([prompt], {"max_new_tokens": count})[0]
        for prompt, count in zip(PROMPTS, lengths, strict=True)
    ]
    calls = forwards(model, monkeypatch)
    each = [model.options({"max_new_tokens": count}) for count in lengths]
    assert len({options.shared() for options in each}) == 1
    items = [model.read(prompt, own) for prompt, own in zip(PROMPTS, each, strict=True)]
    steps = model.run_in_steps(items, each[0].shared())
    for _ in range(3):
        next(steps)
    assert [model.result_of(item) for item in items] == [alone[0], None, None]
    assert at_once(steps) == alone
    assert calls == [3] * 3 + [2] * 4 + [1] * 5


def test_what_runs_out_of_memory_goes_on_where_it_was(model, monkeypatch):
    """A text that was told in part must not be told once more, nor in other words."""
    wish = {"max_new_tokens": 12, "temperature": 1.5, "seed": 7}
    for parameters in ({"max_new_tokens": 12}, wish):
        (expected,) = model(["hello"], parameters)
        calls, step = [], model._writer._step

        def failing(*args, calls=calls, step=step):
            calls.append(1)
            if len(calls) == 5:
                raise MemoryError
            return step(*args)

        with monkeypatch.context() as patched:
            patched.setattr(model._writer, "_step", failing)
            pieces = streamed(model, "hello", parameters)
        assert "".join(piece.text for piece in pieces) == expected["generated_text"]
        assert len(calls) == 13


def test_a_letter_of_several_tokens_is_told_whole():
    letters = "aé€😀!".encode()
    writing = Writing([1], len(letters), lambda ids: bytes(ids).decode("utf-8", "replace"))
    told = []
    for byte in letters:
        writing.take(byte, ())
        if piece := writing.piece():
            told.append(piece.text)
    assert told == list("aé€😀!")
    assert writing.piece() is None


def test_tensors_are_the_texts_and_why_they_end(model):
    results = model(PROMPTS, {"max_new_tokens": 3})
    text, reason = model.tensors_from(results)
    assert [one.decode() for one in text.values] == [one["generated_text"] for one in results]
    assert list(reason.values) == [b"length"] * 3


def test_a_stop_counts_the_tokens_up_to_it_and_no_more(model):
    whole = model(["hello"], {"max_new_tokens": 24})[0]["generated_text"]
    stop = whole[2:4]
    shorter = [model(["hello"], {"max_new_tokens": n})[0]["generated_text"] for n in range(1, 24)]
    first = next(n for n, text in enumerate(shorter, 1) if stop in text)
    for prompts in (["hello"], PROMPTS):
        cut = model(prompts, {"max_new_tokens": 24, "stop": stop})[0]
        assert cut["generated_tokens"] == first


def sentencepiece(folder):
    """As Llama's: a word begins with its space, and what is read by itself loses the first."""
    words = ["<unk>", "<s>", "</s>", "▁the", "▁ball", "▁vote", "s", "."]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def test_what_goes_on_a_text_keeps_the_space_before_it(model, tmp_path):
    writer = Writer(model._writer._module, sentencepiece(tmp_path))
    assert writer.decoded([3, 4]) == "the ball"
    assert Reading(writer.decoded, [1, 3, 4])([5, 6, 3]) == " votes the"
    assert Reading(writer.decoded, [1, 3, 4])([6]) == "s"
    told = Writing([1, 3, 4], 2, Reading(writer.decoded, [1, 3, 4]), before="the ball")
    told.take(5, ())
    told.take(7, ())
    assert told.before + told.text == "the ball vote."


def test_a_stream_too_begins_with_the_prompt_where_that_is_asked(model):
    asked = {"max_new_tokens": 9, "return_full_text": True}
    pieces = streamed(model, "hello", asked)
    whole = model(["hello"], asked)[0]["generated_text"]
    assert whole.startswith("hello")
    assert "".join(piece.text for piece in pieces) == whole


def test_its_own_end_is_no_part_of_the_text_though_it_is_no_special_token():
    writing = Writing([1], 5, lambda ids: "".join(map(chr, ids)))
    for letter in "ab!":
        writing.take(ord(letter), {ord("!")})
    assert (writing.text, writing.reason, len(writing.tokens)) == ("ab", "stop", 3)


def test_it_ends_where_the_tokenizer_or_the_checkpoint_says(tmp_path):
    """A model that was taught to chat may have kept the file of the one it was made from."""
    module = tiny_tasks.llama(tmp_path)
    module.generation_config.eos_token_id = 7
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert Writer(module, tokenizer)._ends == {7, tokenizer.eos_token_id}


def test_what_the_checkpoint_wishes_for_nobody_has_asked(model, tmp_path):
    """A penalty counts a text's padding too: its answer would depend on its neighbours."""
    module = tiny_tasks.llama(tmp_path)
    module.generation_config.update(
        repetition_penalty=2.0, min_length=40, no_repeat_ngram_size=2, cache_implementation="static"
    )
    settings = ModelSettings(task=Task.TEXT_GENERATION)
    wished = open_task(module, tmp_path, tiny_tasks.manifest(Task.TEXT_GENERATION), settings)
    assert wished(PROMPTS, {"max_new_tokens": 12}) == model(PROMPTS, {"max_new_tokens": 12})


@pytest.mark.parametrize("temperature", [1e-30, 1e-300])
def test_next_to_no_temperature_takes_the_likeliest_and_divides_nothing_by_zero(model, temperature):
    cold = model(["hello"], {"max_new_tokens": 5, "temperature": temperature, "seed": 3})
    assert cold == model(["hello"], {"max_new_tokens": 5})


def lossy(tokens):
    return bytes(tokens).decode("utf-8", "replace")


@pytest.mark.parametrize(
    "tokens",
    [
        list("a letter of four, 😀, and of three, €, again and again; ".encode() * 20),
        [0xF0, 0x9F, 0x98, 0x41, 0xFF, 0xE2, 0x82] * 60,
        [0x80] * 300,
    ],
)
def test_text_that_is_read_as_it_comes_is_what_it_is_read_at_once(tokens):
    seen = []
    reading = Reading(lambda part: seen.append(len(part)) or lossy(part))
    for end in range(1, len(tokens) + 1):
        assert reading(tokens[:end]) == lossy(tokens[:end])
    assert max(seen) < 100, "the whole is not read again at each token"


def test_a_word_that_spans_tokens_is_not_cut_where_it_is_settled(model, tmp_path):
    decoded = Writer(model._writer._module, sentencepiece(tmp_path)).decoded
    tokens = [3, 4, 6, 5, 6, 7] * 40
    reading = Reading(decoded)
    for end in range(1, len(tokens) + 1):
        assert reading(tokens[:end]) == decoded(tokens[:end])
