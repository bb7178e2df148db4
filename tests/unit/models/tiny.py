"""Tiny random models with a tokenizer of seven words, saved as their makers would."""

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WORDS = ["[UNK]", "[PAD]", "the", "ball", "vote", "and", "."]
BERT = {
    "vocab_size": len(WORDS),
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
LLAMA = {
    "vocab_size": len(WORDS),
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def save_tokenizer(folder):
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"
    )
    wrapped.save_pretrained(folder)


def save(folder, module):
    module.eval().save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def llama(folder):
    torch.manual_seed(0)
    return save(folder, transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)))


def bert(folder, head="BertModel", **config):
    torch.manual_seed(0)
    kind = getattr(transformers, head)
    return save(folder, kind(transformers.BertConfig(**BERT, **config)))
