"""From the config.json of a model family to its architecture, without transformers or torch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcframework.circuits.architecture import Architecture, Attention, Block, FeedForward, Mamba
from lcframework.circuits.extension_parts import ACTIVATIONS
from lcframework.circuits.families_ours import lcplm
from lcframework.circuits.values import Values
from lcframework.errors import ConfigError

HEAD_DIM = {"qwen3": 128, "gemma": 256, "gemma2": 256, "gemma3_text": 256}
"""What transformers takes where the file has no head_dim; else width over heads."""
ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3", "longrope", "su", "proportional")


def attention_of(v: Values, **switches: Any) -> Attention:
    """Heads and head size by the usual keys.

    Raises:
        ConfigError: sizes that do not divide, or an odd head size under RoPE.
    """
    d, heads = v.whole("hidden_size"), v.whole("num_attention_heads")
    kv_heads = v.whole("num_key_value_heads", heads)
    usual = HEAD_DIM.get(v.raw.get("model_type", ""))
    if usual is None and not v.has("head_dim") and d % heads:
        raise ConfigError(
            f"{v.path}: hidden_size {d} is not a multiple of num_attention_heads {heads} and there "
            "is no head_dim. Correct one of them."
        )
    head_dim = v.whole("head_dim", usual or d // heads)
    one = Attention(heads, kv_heads, head_dim, **switches)
    if heads % kv_heads:
        raise ConfigError(
            f"{v.path}: num_attention_heads {heads} is not a multiple of num_key_value_heads "
            f"{kv_heads}. Correct one of them."
        )
    if one.rotary and head_dim % 2:
        raise ConfigError(
            f"{v.path}: head size {head_dim} is odd, but rotary positions turn pairs of channels. "
            "Correct head_dim, hidden_size or num_attention_heads."
        )
    return one


def notes_of(v: Values) -> tuple[list[str], list[tuple[str, str]]]:
    """(notes, unknown) about what changes constants or precision only."""
    notes, unknown = [], []
    rope = v.get("rope_parameters") or v.get("rope_scaling") or {}
    each = rope.values() if rope and all(isinstance(x, dict) for x in rope.values()) else [rope]
    for one in each:
        kind = one.get("rope_type", one.get("type", "default"))
        if kind not in ROPE_TYPES:
            unknown.append((f"rope {kind}", f"rope type {kind!r} is not known"))
        elif kind != "default":
            notes.append(f"RoPE scaling ({kind}) changes angles, which are constants: no level.")
    if v.has("quantization_config"):
        notes.append("Quantised weights change the precision, not the depth.")
    if v.has("auto_map"):
        unknown.append(("custom code", "auto_map names code that is not part of transformers"))
    return list(dict.fromkeys(notes)), unknown


def checked_activation(v: Values, key: str, default: str) -> tuple[str, list[tuple[str, str]]]:
    """(name, unknown parts) of an activation."""
    name = str(v.get(key, default))
    if name in ACTIVATIONS:
        return name, []
    return name, [(f"activation {name}", f"{key} = {name!r} is not known")]


def decoder(v: Values, family: str) -> Architecture:
    """Llama and what is built like it: Mistral, Qwen2, Qwen3, Gemma 1-3, Mixtral, Qwen3-MoE."""
    gemma, qwen = family.startswith("gemma"), family.startswith("qwen")
    act_key = "hidden_activation" if v.has("hidden_activation") else "hidden_act"
    act, unknown = checked_activation(v, act_key, "gelu_tanh" if gemma else "silu")
    if gemma:
        v.ignore("hidden_act", "query_pre_attn_scalar")
        act = "gelu_tanh" if act == "gelu" else act  # what transformers computes for these files
    bias = v.flag("attention_bias") if family != "mistral" else False
    windowed = v.get("sliding_window") if not qwen or v.flag("use_sliding_window") else None
    attention = attention_of(
        v,
        qkv_bias=True if family == "qwen2" else bias,
        out_bias=bias,
        qk_norm=family in ("qwen3", "qwen3_moe", "gemma3_text"),
        soft_cap=v.has("attn_logit_softcapping"),
        window=int(windowed) if windowed else None,
        causal=not v.flag("use_bidirectional_attention"),
    )
    sandwich = family in ("gemma2", "gemma3_text")
    width, ff_bias = v.whole("intermediate_size"), v.flag("mlp_bias")
    dense = Block(attention, FeedForward(width, act, True, ff_bias), "rms", sandwich)
    blocks = _with_experts(v, family, dense, act)
    notes, more = notes_of(v)
    v.ignore("layer_types", "max_window_layers", "use_sliding_window")
    return Architecture(
        name=v.name,
        family=family,
        width=v.whole("hidden_size"),
        blocks=blocks,
        vocabulary=v.whole("vocab_size"),
        tied=v.flag("tie_word_embeddings", gemma),
        max_length=v.get("max_position_embeddings"),
        embedding_scale=gemma,
        final_soft_cap=v.has("final_logit_softcapping"),
        dtype=v.get("dtype", v.get("torch_dtype")),
        notes=tuple(notes),
        unknown=(*unknown, *more, *v.unknown()),
    )


def _with_experts(v: Values, family: str, dense: Block, act: str) -> tuple[tuple[int, Block], ...]:
    layers = v.whole("num_hidden_layers")
    if family not in ("mixtral", "qwen3_moe"):
        return ((layers, dense),)
    key = "num_local_experts" if v.has("num_local_experts") else "num_experts"
    v.ignore("num_experts", "num_local_experts")
    moe = family == "qwen3_moe"
    experts = FeedForward(
        v.whole("moe_intermediate_size") if moe else v.whole("intermediate_size"),
        act,
        True,
        experts=v.whole(key),
        chosen=v.whole("num_experts_per_tok", 2),
        renormalise=v.flag("norm_topk_prob") if moe else True,
    )
    step, only_dense = v.whole("decoder_sparse_step", 1), set(v.get("mlp_only_layers") or ())
    sparse = sum(i not in only_dense and (i + 1) % step == 0 for i in range(layers))
    groups = ((sparse, replace(dense, feed_forward=experts)), (layers - sparse, dense))
    return tuple((count, block) for count, block in groups if count)


def esm(v: Values, family: str) -> Architecture:
    """ESM-2 (and ESM-1b with learned positions)."""
    positions = v.get("position_embedding_type", "absolute")
    act, unknown = checked_activation(v, "hidden_act", "gelu")
    if positions not in ("rotary", "absolute"):
        unknown.append((f"positions {positions}", f"position_embedding_type = {positions!r}"))
    if v.flag("is_decoder") or v.flag("add_cross_attention"):
        unknown.append(("decoder", "is_decoder or add_cross_attention is set"))
    if v.flag("is_folding_model"):
        unknown.append(("folding head", "is_folding_model is set"))
    attention = attention_of(
        v, rotary=positions == "rotary", causal=False, qkv_bias=True, out_bias=True
    )
    feed_forward = FeedForward(v.whole("intermediate_size"), act, False, True)
    length = v.whole("max_position_embeddings", 1026)
    notes, more = notes_of(v)
    return Architecture(
        name=v.name,
        family=family,
        width=v.whole("hidden_size"),
        blocks=((v.whole("num_hidden_layers"), Block(attention, feed_forward, "layer")),),
        vocabulary=v.whole("vocab_size"),
        tied=v.flag("tie_word_embeddings", True),
        max_length=length,
        learned_positions=length if positions == "absolute" else 0,
        token_dropout=v.flag("token_dropout"),
        embedding_norm=v.flag("emb_layer_norm_before"),
        head="esm",
        dtype=v.get("dtype", v.get("torch_dtype")),
        notes=tuple(notes),
        unknown=(*unknown, *more, *v.unknown()),
    )


def mamba(v: Values, family: str) -> Architecture:
    """Mamba-1 as in transformers."""
    act, unknown = checked_activation(v, "hidden_act", "silu")
    if act not in ("silu", "swish"):
        unknown.append((f"activation {act}", "a Mamba block is counted with silu"))
    d = v.whole("hidden_size")
    inner = v.whole("intermediate_size", v.whole("expand", 2) * d)
    rank = v.get("time_step_rank", "auto")
    mixer = Mamba(
        inner=inner,
        states=v.whole("state_size", 16),
        taps=v.whole("conv_kernel", 4),
        rank=-(-d // 16) if rank == "auto" else v.whole("time_step_rank"),
        projection_bias=v.flag("use_bias"),
        conv_bias=v.flag("use_conv_bias", True),
    )
    v.ignore("time_step_scale")
    notes, more = notes_of(v)
    return Architecture(
        name=v.name,
        family=family,
        width=d,
        blocks=((v.whole("num_hidden_layers"), Block(mixer)),),
        vocabulary=v.whole("vocab_size"),
        tied=v.flag("tie_word_embeddings", True),
        max_length=None,
        dtype=v.get("dtype", v.get("torch_dtype")),
        notes=tuple(notes),
        unknown=(*unknown, *more, *v.unknown()),
    )


def unknown_family(v: Values, family: str) -> Architecture:
    """Any other model: embedding and head by the usual names, its blocks unknown as a whole."""
    width = next((k for k in ("hidden_size", "n_embd", "d_model") if v.has(k)), "hidden_size")
    layers = next(
        (k for k in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if v.has(k)),
        "num_hidden_layers",
    )
    length = next((k for k in ("max_position_embeddings", "n_positions") if v.has(k)), "")
    part = f"{family} block"
    return Architecture(
        name=v.name,
        family=family,
        width=v.whole(width),
        blocks=((v.whole(layers), Block(None)),),
        vocabulary=v.whole("vocab_size"),
        tied=v.flag("tie_word_embeddings", False),
        max_length=v.get(length) if length else None,
        final_norm=False,
        dtype=v.get("dtype", v.get("torch_dtype")),
        unknown=(
            (part, f"model_type {family!r} is not one of {', '.join(FAMILIES)}: what its blocks "
             "compute is not known, so every block keeps a depth of its own"),
        ),
    )  # fmt: skip


FAMILIES: dict[str, Callable[[Values, str], Architecture]] = {
    **dict.fromkeys(
        (
            "llama",
            "mistral",
            "qwen2",
            "qwen3",
            "gemma",
            "gemma2",
            "gemma3_text",
            "mixtral",
            "qwen3_moe",
        ),
        decoder,
    ),
    "esm": esm,
    "mamba": mamba,
    "lcplm": lcplm,
}


def from_hugging_face(path: Path, raw: dict[str, Any]) -> Architecture:
    """The architecture of a config.json.

    Raises:
        ConfigError: it has no model_type, or values that make no model.
    """
    family = raw.get("model_type")
    if not isinstance(family, str):
        raise ConfigError(
            f"{path} has no model_type, so it is no Hugging Face configuration. Give the "
            "config.json of a model (known: " + ", ".join(FAMILIES) + ")."
        )
    nested = raw.get("text_config")
    if family not in FAMILIES and isinstance(nested, dict) and "model_type" in nested:
        one = from_hugging_face(path, {**nested, "torch_dtype": raw.get("torch_dtype")})
        others = [key for key in raw if key.endswith("_config") and key != "text_config"]
        extra = tuple(
            (key, f"{key} of the {family!r} model is not counted")
            for key in others
            if key != "quantization_config" and raw[key]
        )
        return replace(one, unknown=(*one.unknown, *extra))
    return FAMILIES.get(family, unknown_family)(Values(path, raw), family)
