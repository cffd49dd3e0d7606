"""Which models a context can be made for, and how a model and a tokenizer are told apart."""

import hashlib
import json
from typing import Any

import torch
from transformers import PreTrainedModel

from lcframework.errors import ConfigError
from lcframework.models.squeezed.attention import ATTENTION_NAME

KNOWN_LAYERS = ("full_attention", "sliding_attention")
SAMPLE = 64
"""Elements of each weight that go into a model's fingerprint."""


def text_config(model: PreTrainedModel) -> Any:
    """The configuration of the decoder."""
    return model.config.get_text_config(decoder=True)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the host had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def layer_kinds(config: Any) -> list[str]:
    """The attention of each layer, "full_attention" or "sliding_attention" and so on."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        window = getattr(config, "sliding_window", None)
        one = "full_attention" if window is None else "sliding_attention"
        kinds = [one] * config.num_hidden_layers
    return list(kinds)


def frequency_border(config: Any) -> int | None:
    """Tokens beyond which all rotary frequencies change ("longrope", as in Phi-3's 128k models), so
    that no text may be read partly on either side of it; None where they never change.

    "dynamic" scaling changes them only beyond the model's positions, which are refused.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(one for one in rope.values() if isinstance(one, dict))]
    borders = [
        one["original_max_position_embeddings"]
        for one in kinds
        if one.get("rope_type") == "longrope"
    ]
    return min(borders, default=None)


def check_model(model: PreTrainedModel) -> None:
    """Refuse a model for which the method is not defined or not implemented.

    Raises:
        ConfigError: encoder-decoder, no rotary positions, capped logits, attention sinks as
            parameters, layers of an unknown kind, no full-attention layer, another attention
            implementation, training mode.
    """
    config, name = text_config(model), type(model).__name__
    if model.config.is_encoder_decoder:
        raise ConfigError(f"{name} is an encoder-decoder; squeezed attention needs a decoder.")
    if not (getattr(config, "rope_parameters", None) or getattr(config, "rope_theta", None)):
        raise ConfigError(
            f"{name} ({config.model_type}) has no rotary positions in its configuration; the "
            "method clusters keys that carry their position."
        )
    if getattr(config, "attn_logit_softcapping", None):
        raise ConfigError(f"{name} caps its attention logits, which squeezed attention does not.")
    if getattr(config, "num_kv_shared_layers", 0):
        raise ConfigError(f"Layers of {name} share keys and values, which is not supported.")
    if getattr(config, "use_bidirectional_attention", False):
        raise ConfigError(f"{name} attends in both directions; the method needs causal attention.")
    kinds = layer_kinds(config)
    unknown = sorted(set(kinds) - set(KNOWN_LAYERS))
    if unknown:
        raise ConfigError(
            f"{name} has layers of the kind {', '.join(unknown)}; known are "
            f"{', '.join(KNOWN_LAYERS)}."
        )
    if config._attn_implementation != ATTENTION_NAME:
        raise ConfigError(
            f"The attention of {name} is {config._attn_implementation!r}. Load it with "
            f"attn_implementation={ATTENTION_NAME!r}, or call "
            f"model.set_attn_implementation({ATTENTION_NAME!r})."
        )
    if model.training:
        raise ConfigError("A squeezed context is for inference: call model.eval() first.")


def check_squeezes(model: PreTrainedModel) -> None:
    """Refuse to compare densities of reading with a model that reads densely anyway.

    Raises:
        ConfigError: every layer has a sliding window.
    """
    config = text_config(model)
    if "full_attention" not in layer_kinds(config):
        raise ConfigError(
            f"Every layer of {type(model).__name__} has a sliding window of "
            f"{config.sliding_window} tokens and stays dense, so there is nothing to squeeze and "
            "nothing to compare. A context of it can be built and asked."
        )


def model_fingerprint(model: PreTrainedModel) -> dict[str, str]:
    """What identifies a model's numbers: class, dtype, configuration and a sample of every weight.

    Returns:
        `architecture`, `dtype` and `weights`, a sha256 over configuration values that decide the
        keys and 64 elements of every weight.
    """
    config = text_config(model)
    deciding = {
        key: getattr(config, key, None)
        for key in (
            "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "rope_parameters", "rope_theta", "sliding_window",
            "layer_types", "vocab_size",
        )
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.named_parameters()):
        flat = weight.detach().reshape(-1)
        count = min(SAMPLE, flat.numel())
        index = torch.arange(count) * (flat.numel() - 1) // max(1, count - 1)
        values = flat[index.to(flat.device)].float().cpu().numpy()
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + values.tobytes())
    return {
        "architecture": type(model).__name__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "weights": digest.hexdigest(),
    }


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """sha256 of the vocabulary with its ids, and of what a probe text becomes."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    probe = tokenizer("Ünïcode 2 4 86\n\n  tab\t<|x|> 漢字 don't", add_special_tokens=False)
    return hashlib.sha256(f"{vocabulary}{probe['input_ids']}".encode()).hexdigest()
