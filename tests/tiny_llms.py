"""Tiny language models with random weights, as Hugging Face folders and as GGUF files."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SPECIAL = ["<|end|>", "<|start|>"]


def vocabulary():
    """Every byte, spelt as byte-level BPE does, behind two special tokens; and a few merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ċ", "Ċ"), ("Ġ", "Ġ")]
    tokens = [*SPECIAL, *letters, *("".join(one) for one in merges)]
    return tokens, merges


def tiny_tokenizer():
    tokens, merges = vocabulary()
    backend = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|start|>", eos_token="<|end|>", pad_token="<|end|>",
        additional_special_tokens=SPECIAL, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def tiny_config(**changes):
    return LlamaConfig(
        **{
            "vocab_size": len(vocabulary()[0]), "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 8, "max_position_embeddings": 512, "tie_word_embeddings": True,
            "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0, "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            **changes,
        }
    )  # fmt: skip


def tiny_model(config=None):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config or tiny_config()).eval()
    for weight in model.parameters():  # far from the initial values, so that mistakes show
        weight.data += 0.3 * torch.randn_like(weight)
    return model


def write_folder(folder, config=None, **save):
    """A folder as save_pretrained writes it; returns the model."""
    model = tiny_model(config)
    model.save_pretrained(folder, **save)
    tiny_tokenizer().save_pretrained(folder)
    return model


def write_gguf(path, model, architecture="llama", extra=None, tensors=None):
    """The tiny Llama as llama.cpp's converter would write it, in float32."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    tokens, merges = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if one in SPECIAL else 1 for one in tokens])
    writer.add_token_merges([" ".join(one) for one in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for key, value in (extra or {}).items():
        writer.add_string(key, value)
    for name, weight in (tensors if tensors is not None else gguf_tensors(model)).items():
        writer.add_tensor(name, weight.detach().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_tensors(model):
    """Weights by their GGUF names; queries and keys in llama.cpp's order of rotary pairs."""
    config = model.config
    named = {"token_embd.weight": model.model.embed_tokens.weight}
    named["output_norm.weight"] = model.model.norm.weight
    for number, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        for name, weight in {
            "attn_norm": layer.input_layernorm.weight,
            "ffn_norm": layer.post_attention_layernorm.weight,
            "attn_q": _pairs(attention.q_proj.weight, config.num_attention_heads),
            "attn_k": _pairs(attention.k_proj.weight, config.num_key_value_heads),
            "attn_v": attention.v_proj.weight,
            "attn_output": attention.o_proj.weight,
            "ffn_gate": mlp.gate_proj.weight,
            "ffn_up": mlp.up_proj.weight,
            "ffn_down": mlp.down_proj.weight,
        }.items():
            named[f"blk.{number}.{name}.weight"] = weight
    return named


def _pairs(weight, heads):
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)
