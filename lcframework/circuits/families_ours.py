"""From our own configurations to an architecture: LC-PLM, and the packed ESM-2 of conf/model."""

from collections.abc import Callable

from lcframework.circuits.architecture import Architecture, Attention, Block, FeedForward, Mamba
from lcframework.circuits.values import Values
from lcframework.errors import ConfigError


def lcplm(v: Values, family: str = "lcplm") -> Architecture:
    """LC-PLM: the export's config.json and the YAML of conf/model alike."""
    d = v.whole("d_model")
    rank = v.get("dt_rank", "auto")
    rows = v.whole("pad_vocab_to", 128) if "_target_" in v.raw else v.whole("vocab_size")
    v.ignore("vocab_size", "n_tokens", "gradient_checkpointing", "_target_")
    mixer = Mamba(
        inner=v.whole("expand", 2) * d,
        states=v.whole("d_state", 16),
        taps=v.whole("d_conv", 4),
        rank=-(-d // 16) if rank == "auto" else v.whole("dt_rank"),
        directions=2,
    )
    v.ignore("tie_word_embeddings", "auto_map")
    return Architecture(
        name=v.name,
        family=family,
        width=d,
        blocks=((v.whole("n_layers"), Block(mixer)),),
        vocabulary=rows,
        tied=False,
        max_length=None,
        dtype=v.get("dtype", v.get("torch_dtype")),
        unknown=v.unknown(),
    )


def esm2_yaml(v: Values) -> Architecture:
    """conf/model/esm2_*.yaml: our packed ESM-2, which has rotary positions and no length bound."""
    d, heads = v.whole("d_model"), v.whole("n_heads")
    v.ignore("_target_", "attention_backend")
    if d % heads or d // heads % 2:
        raise ConfigError(
            f"{v.path}: d_model {d} does not split into n_heads {heads} heads of an even size."
        )
    attention = Attention(heads, heads, d // heads, causal=False, qkv_bias=True, out_bias=True)
    feed_forward = FeedForward(v.whole("ffn_ratio", 4) * d, "gelu", False, True)
    return Architecture(
        name=v.name,
        family="esm2",
        width=d,
        blocks=((v.whole("n_layers"), Block(attention, feed_forward, "layer")),),
        vocabulary=v.whole("vocab_size", 33),
        tied=True,
        max_length=None,
        head="esm",
        unknown=v.unknown(),
    )


TARGETS: dict[str, Callable[[Values], Architecture]] = {
    "lcframework.models.lcplm.model.LCPLM": lcplm,
    "lcframework.models.esm2.model.ESM2": esm2_yaml,
}
