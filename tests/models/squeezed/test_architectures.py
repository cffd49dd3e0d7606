"""Decoders of transformers, one after the other, with random weights: sparsity 0 gives the dense
answer in a padded batch, or the model is refused in words. Never another answer."""

import pytest
import torch
from test_generate import QUESTIONS, dense_answer
from tiny_decoders import DOCUMENT, byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from lcframework.errors import ConfigError
from lcframework.models.squeezed import SqueezedContext

pytestmark = pytest.mark.slow
SIZES = {
    "vocab_size": 259, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    "initializer_range": 0.25, "pad_token_id": 256, "bos_token_id": 257, "eos_token_id": 258,
}  # fmt: skip
HEAD = {"head_dim": 16}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
WINDOW = {"sliding_window": 40}
KNOWN = {
    "apertus": {}, "arcee": {}, "bitnet": {}, "cohere": {}, "cohere2": WINDOW,
    "ernie4_5": HEAD, "exaone4": WINDOW, "gemma": HEAD, "glm": HEAD, "glm4": HEAD, "gpt_neox": {},
    "granite": {}, "helium": HEAD, "hunyuan_v1_dense": HEAD, "mixtral": {"num_local_experts": 2},
    "nemotron": {}, "olmo": {}, "olmo2": {}, "olmo3": WINDOW, "persimmon": {}, "phi": {},
    "phi3": {"sliding_window": None}, "qwen2": {}, "qwen3_moe": MOE, "seed_oss": HEAD,
    "smollm3": {}, "stablelm": {}, "starcoder2": {"sliding_window": None},
}  # fmt: skip
REFUSED = {
    "bloom": "no rotary positions", "opt": "no rotary positions", "mpt": "no rotary positions",
    "gemma2": "caps its attention logits", "jamba": "no rotary positions",
    "gpt_oss": "passes s_aux", "jetmoe": "straight from",
    "doge": "straight from", "bamba": "linear_attention", "llama4_text": "chunked_attention",
}  # fmt: skip


def model_of(kind, **more):
    config = AutoConfig.for_model(kind, **SIZES, **more)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="squeezed").eval()
    model.generation_config.eos_token_id = None
    return model


@pytest.mark.parametrize("kind", sorted(KNOWN))
def test_sparsity_0_is_dense(kind):
    context = SqueezedContext.build(
        model_of(kind, **KNOWN[kind]), byte_tokenizer(), DOCUMENT, window=32, chunk=100
    )
    assert bool(context.dense_layers) == (KNOWN[kind] == WINDOW)
    want = [dense_answer(context, question)[0] for question in QUESTIONS]
    got = context.ask(QUESTIONS, sparsity=0.0, max_new_tokens=12)
    assert [one.tokens for one in got] == want
    (some,) = context.ask(QUESTIONS[0], sparsity=0.8, max_new_tokens=4)
    assert 0 <= float(some.kept.mean()) < 0.9


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_is_not_supported_says_why(kind):
    small = {"num_local_experts": 2, "intermediate_size_mlp": 64} if kind == "llama4_text" else {}
    with pytest.raises(ConfigError, match=REFUSED[kind]):
        SqueezedContext.build(model_of(kind, **small), byte_tokenizer(), DOCUMENT, window=32)
