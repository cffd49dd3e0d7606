"""Methods in the cache of a context: the same layers, tail, masks and bookkeeping as squeezed
attention, another choice of tokens."""

from typing import Any

import torch
from torch import Tensor

from lcframework.models.squeezed.attention import BoundKV
from lcframework.models.squeezed.cache import SqueezedLayer
from lcframework.models.squeezed.methods.selector import Selector
from lcframework.ops.squeezed_attention import SelectionRule
from lcframework.ops.squeezed_attention.masked import masked_attention, mean_kept
from lcframework.ops.squeezed_attention.selection import queries_of, wide


class MethodLayer(SqueezedLayer):
    """A full-attention layer whose context tokens a `Selector` chooses.

    Args:
        selector: made for this cache.
    """

    def __init__(self, selector: Selector) -> None:
        super().__init__(selector.text.fixed, SelectionRule(), selector.text.scale)
        self.selector, self.each = selector, False

    def choose_each(self) -> None:
        """From now on every query chooses for itself."""
        self.each = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Append to the tail; returns the bound object twice, for key and for value."""
        super().update(key_states, value_states)
        bound = MethodKV(self)
        return bound, bound


class MethodKV(BoundKV):
    """What a `MethodLayer` hands to the attention function."""

    def __init__(self, layer: MethodLayer) -> None:
        self.layer = layer

    @torch.compiler.disable
    def attend(
        self, module: torch.nn.Module, query: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        """Attention to the chosen tokens; notes their share."""
        layer = self.layer
        assert layer.keys is not None and layer.values is not None
        Q, T = query.shape[2], layer.tail_tokens
        query = query.to(layer.fixed.keys.dtype)
        if mask is None:
            mask = torch.ones(Q, T, dtype=torch.bool, device=query.device).tril(T - Q)[None, None]
        valid = queries_of(mask, len(query))
        keep = layer.selector.choose(query, valid, layer.each)
        layer.kept.append(mean_kept(keep, valid, Q, wide(query.dtype)) / max(1, keep.shape[-1]))
        out = masked_attention(
            query, layer.fixed, keep, layer.keys, layer.values, mask,
            layer.scale if scale is None else scale,
        )  # fmt: skip
        return out.transpose(1, 2).contiguous()
