"""Tiny models of every task, random but real, saved as a checkpoint is: for tests of the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from stoker.models.manifest import Manifest
from stoker.nouns.settings import Quantization, Task

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "tree",
    "good",
    "bad",
    "very",
    "not",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def manifest(task: Task, key: str = "tiny") -> Manifest:
    return Manifest(
        key=key,
        model="tiny",
        source_digest="d",
        task=task,
        quantization=Quantization.NONE,
        backend="torch",
        bytes_before=1,
        dimension=2,
    )


def word_tokenizer(folder: Path) -> int:
    """BERT's way with a few words, and letters for the others; the size of its vocabulary."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*SPECIAL, *WORDS, *(x for x in letters if x != "a"), *(f"##{x}" for x in letters)]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return len(vocab)


def byte_tokenizer(folder: Path, *, chat: bool = True, **more: Any) -> int:
    """A token a byte; no two texts share one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "</s>", *more.pop("extra", [])]
    vocab = {piece: index for index, piece in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", **more
    )
    if chat:
        fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return len(vocab)


def bert(folder: Path, head: str, **config: Any) -> Any:
    """A BERT with a head of transformers."""
    size = word_tokenizer(folder)
    transformers.set_seed(7)
    made = transformers.BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.6,
        **config,
    )
    return _saved(getattr(transformers, head)(made), folder)


def llama(folder: Path, *, chat: bool = True, context: int = 96) -> Any:
    size = byte_tokenizer(folder, chat=chat)
    transformers.set_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=context,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=1,
    )
    return _saved(transformers.LlamaForCausalLM(config), folder)


def decoder(folder: Path, *, hidden: int, layers: int, context: int = 2048) -> Any:
    """A Llama in bf16 of about any size, whose answers are as sharp as a trained one's."""
    size = byte_tokenizer(folder)
    transformers.set_seed(3)
    heads = max(4, hidden // 128)
    config = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
        intermediate_size=hidden * 11 // 4,
        max_position_embeddings=context,
        initializer_range=1.5 / hidden**0.5,
        bos_token_id=0,
        eos_token_id=1,
    )
    return _saved(transformers.LlamaForCausalLM(config).bfloat16(), folder)


def vit(folder: Path) -> Any:
    transformers.set_seed(5)
    config = transformers.ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        num_labels=3,
        initializer_range=0.5,
        id2label={0: "cat", 1: "dog", 2: "tree"},
        label2id={"cat": 0, "dog": 1, "tree": 2},
    )
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return _saved(transformers.ViTForImageClassification(config), folder)


def whisper(folder: Path) -> Any:
    """A Whisper that hears one second."""
    size = byte_tokenizer(folder, chat=False)
    transformers.set_seed(11)
    config = transformers.WhisperConfig(
        vocab_size=size,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_mel_bins=8,
        max_source_positions=50,
        max_target_positions=24,
        init_std=0.5,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        decoder_start_token_id=0,
    )
    module = transformers.WhisperForConditionalGeneration(config)
    module.generation_config = transformers.GenerationConfig(
        bos_token_id=0, eos_token_id=1, pad_token_id=1, decoder_start_token_id=0, max_length=20
    )
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return _saved(module, folder)


def _saved(module: Any, folder: Path) -> Any:
    module.eval().save_pretrained(folder)
    return module


def pieces_of(model: Any, prompt: Any, parameters: dict[str, Any]) -> list[Any]:
    """What a reader of one text is told while it is written."""
    options = model.options(parameters)
    item = model.read(prompt, options)
    steps = model.run_in_steps([item], options)
    told, goes_on = [], True
    while goes_on:
        try:
            next(steps)
        except StopIteration as end:
            goes_on = False
            if isinstance(end.value[0], Exception):
                raise end.value[0] from None
        if piece := model.piece(item):
            told.append(piece)
    return told
