"""Random decoders of a few thousand parameters, and a tokenizer of bytes."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import lcframework.models.squeezed  # noqa: F401  # makes "squeezed" known to transformers

BASE = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.25,  # attention that looks somewhere, answers that differ
    "pad_token_id": 256,
    "bos_token_id": 257,
    "eos_token_id": 258,
}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama_mha": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 4}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "qwen3_mixed": (
        Qwen3ForCausalLM,
        Qwen3Config,
        {
            "use_sliding_window": True,
            "sliding_window": 40,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
    "gemma3_wide": (  # a window that ends between document and answer
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {
            "sliding_window": 575,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 16,
        },
    ),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {
            "sliding_window": 24,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 16,
        },
    ),
}


def tiny_model(family="llama", seed=0, attention="squeezed", **options):
    cls, config, more = FAMILIES[family]
    torch.manual_seed(seed)
    config = config(**{**BASE, **more, **options}, attn_implementation=attention)
    model = cls(config).eval()
    model.generation_config.eos_token_id = None
    return model


def byte_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)}
    specials = ["<pad>", "<s>", "</s>"]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


DOCUMENT = " ".join(
    f"Item {number} of the list costs {number * 7 % 23} coins and comes from {place}."
    for number, place in enumerate(["Oslo", "Rome", "Lima", "Kyoto", "Cairo"] * 2)
)
