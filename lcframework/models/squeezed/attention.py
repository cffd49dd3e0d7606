"""Squeezed attention in transformers' attention interface and attention-mask interface.

How the attention function learns which context it serves: decoder layers do not hand the cache on,
and generate() refuses keyword arguments it does not know. But every attention layer passes what its
cache layer's `update` returned straight to the attention function. So the cache layers of a context
return an object instead of key and value tensors (a `BoundKV`), and that object computes the
attention. Nothing global is involved: two contexts, two models or two threads do not meet. A model
with another attention implementation that is given such a cache fails at once, with a cure, because
the object is no tensor; with a tensor it would silently answer without the document.

Without a context the implementation is transformers' own "sdpa".
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function, sdpa_mask

from lcframework.errors import ConfigError

ATTENTION_NAME = "squeezed"


class BoundKVUsedAsTensor(ConfigError):
    """The keys that a cache returned did not go straight to the "squeezed" attention function."""


class BoundKV:
    """Keys and values of one layer, bound to the cache layer they came from; no tensor."""

    def attend(
        self, module: torch.nn.Module, query: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        """Attention output (B, Q, Hq, Dv) of queries (B, Hq, Q, D)."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise BoundKVUsedAsTensor(
            "A squeezed context was given to a model whose attention is not 'squeezed'. Load it "
            "with AutoModelForCausalLM.from_pretrained(path, attn_implementation='squeezed') after "
            "`import lcframework.models.squeezed`, or call "
            "model.set_attn_implementation('squeezed')."
        )


def squeezed_attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor | BoundKV,
    value: Tensor | BoundKV,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The function registered as "squeezed"; transformers' signature.

    Args:
        module: the attention layer that calls.
        query: (B, Hq, Q, D), rotated.
        key: a `BoundKV` from a context's cache, or (B, H, T, D) as usual.
        value: the same object as `key`, or (B, H, T, Dv).
        attention_mask: from `squeezed_mask`.
        dropout: must be 0 with a context.
        scaling: factor on the logits.
        **kwargs: of the model; what would change the result is refused.

    Returns:
        (B, Q, Hq, Dv), and None: attention weights are never formed.

    Raises:
        ConfigError: with a context, dropout or a feature of the model that the method does not
            know.
    """
    if not isinstance(key, BoundKV):
        assert isinstance(value, Tensor)
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise ConfigError(
                f"{type(module).__name__} passes {name} to its attention, which squeezed attention "
                "does not compute; this model is not supported."
            )
    if dropout:
        raise ConfigError("A squeezed context is for inference: call model.eval() first.")
    return key.attend(module, query, attention_mask, scaling), None


def squeezed_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    use_vmap: bool = False,
    **kwargs: Any,
) -> Tensor | None:
    """The mask that goes with "squeezed": transformers' own for sdpa, except for one case.

    A sliding window is counted in places of the cache. With padding between context and question,
    as in a batch of questions of different lengths, the padding would fill the window, and a short
    question would see less of the document than it sees alone. So there it is counted in tokens.

    Returns:
        (B, 1, Q, kv_length) bool, True where a query may look, or None: causal.
    """
    config = kwargs.get("config")
    padded = (
        local_size is not None
        and attention_mask is not None
        and not use_vmap
        and kv_offset + kv_length <= attention_mask.shape[-1]
        and getattr(config, "attention_chunk_size", None) is None
    )
    shape = {
        "batch_size": batch_size,
        "q_length": q_length,
        "kv_length": kv_length,
        "q_offset": q_offset,
        "kv_offset": kv_offset,
        "attention_mask": attention_mask,
    }
    if not padded:
        return sdpa_mask(
            **shape,
            mask_function=mask_function,
            local_size=local_size,
            use_vmap=use_vmap,
            **kwargs,
        )
    assert attention_mask is not None and local_size is not None
    kwargs["allow_is_causal_skip"] = False
    causal = sdpa_mask(**shape, mask_function=causal_mask_function, **kwargs)
    assert causal is not None
    position = attention_mask.long().cumsum(-1)
    query_at = position[:, q_offset : q_offset + q_length, None]
    key_at = position[:, None, kv_offset : kv_offset + kv_length]
    return causal & (query_at - key_at < local_size)[:, None]


def register() -> None:
    """Make `attn_implementation="squeezed"` known to transformers; harmless when repeated."""
    AttentionInterface.register(ATTENTION_NAME, squeezed_attention_forward)
    AttentionMaskInterface.register(ATTENTION_NAME, squeezed_mask)
