"""The cache of a question that is asked of a context: the context once, the question per row.

Legend: B rows, H key-value heads, Hq query heads, Q queries, T tail tokens, S context tokens,
    w context tokens inside a sliding window, D head size.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lcframework.models.squeezed.attention import BoundKV
from lcframework.ops.squeezed_attention import FixedKV, SelectionRule, squeezed_attention


class TailLayer(CacheLayerMixin):
    """A layer that reports context + tail tokens and stores the tail; base of both kinds.

    Args:
        context_tokens: S.
        heads: H.
    """

    is_compileable = False
    is_croppable = True
    is_sliding = False

    def __init__(self, context_tokens: int) -> None:
        super().__init__()
        self.context_tokens = context_tokens

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Start an empty tail of the right shape."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def _append(self, key_states: Tensor, value_states: Tensor) -> None:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        self.keys = torch.cat([self.keys, key_states], 2)
        self.values = torch.cat([self.values, value_states], 2)

    @property
    def tail_tokens(self) -> int:
        """T, padding included."""
        return 0 if self.keys is None else self.keys.shape[2]

    def get_seq_length(self) -> int:
        """S + T: generate() slices its input by it."""
        return self.context_tokens + self.tail_tokens

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def get_max_cache_shape(self) -> int:
        """No maximum (the older name)."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys the mask covers, and the place of the first: the tail alone."""
        return self.tail_tokens + query_length, self.context_tokens

    def reset(self) -> None:
        """Forget the tail."""
        self.keys = self.values = None
        self.is_initialized = False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Move the tails of the surviving beams; the context is the same for all."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows of the tail."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, indices.to(self.keys.device))
            self.values = self.values.index_select(0, indices.to(self.values.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the tail."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.repeat_interleave(repeats, 0)
            self.values = self.values.repeat_interleave(repeats, 0)

    def crop(self, tokens_to_remove: int) -> None:
        """Take tokens off the tail's end: so many if negative, down to so many in all if positive.

        Raises:
            ValueError: more than the tail holds.
        """
        remove = -tokens_to_remove
        if tokens_to_remove > 0:  # transformers 5.17 still means the length to keep
            remove = max(0, self.get_seq_length() - tokens_to_remove)
        if remove > self.tail_tokens:
            raise ValueError(
                f"{remove} tokens cannot be removed: the tail behind the context has "
                f"{self.tail_tokens}"
            )
        if remove and self.keys is not None and self.values is not None:
            self.keys = self.keys[:, :, : self.tail_tokens - remove]
            self.values = self.values[:, :, : self.values.shape[2] - remove]


class SqueezedLayer(TailLayer):
    """A full-attention layer: selected clusters of the context, and the tail exactly.

    Args:
        fixed: the layer's context, shared by all caches made of it.
        rule: which clusters are read.
        scale: factor on the logits.
        backend: as in `squeezed_attention`.

    Attributes:
        kept: per call, share of the clustered tokens that was read, (B, S') on the device.
    """

    def __init__(
        self, fixed: FixedKV, rule: SelectionRule, scale: float, backend: str = "auto"
    ) -> None:
        super().__init__(fixed.length)
        self.fixed, self.rule, self.scale, self.backend = fixed, rule, scale, backend
        self.kept: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Append to the tail; returns the bound object twice, for key and for value."""
        # transformers 5.17 rotates in float32 under autocast.
        dtype = self.fixed.keys.dtype
        self._append(key_states.to(dtype), value_states.to(dtype))
        bound = SqueezedKV(self)
        return bound, bound

    def choose_each(self) -> None:
        """From now on every query chooses for itself, as in decoding."""
        self.rule = replace(self.rule, query_block=1)

    def reset(self) -> None:
        """Forget the tail and what was counted."""
        super().reset()
        self.kept = []


class SqueezedKV(BoundKV):
    """What a `SqueezedLayer` hands to the attention function."""

    def __init__(self, layer: SqueezedLayer) -> None:
        self.layer = layer

    @torch.compiler.disable
    def attend(
        self, module: torch.nn.Module, query: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        """Squeezed attention; notes the share of tokens read."""
        layer = self.layer
        assert layer.keys is not None and layer.values is not None
        out, tokens = squeezed_attention(
            query.to(layer.fixed.keys.dtype),
            layer.fixed,
            layer.keys,
            layer.values,
            mask,
            layer.rule,
            scale=layer.scale if scale is None else scale,
            backend=layer.backend,
        )
        layer.kept.append(tokens / max(1, layer.fixed.clustered))
        return out.transpose(1, 2).contiguous()


class SlidingLayer(TailLayer):
    """A sliding-window layer, left dense: the context's last tokens and the whole tail.

    The tail is never cut: with padding in it, places and tokens differ, and the mask counts tokens.

    Args:
        keys: (H, w, D) of the context's last w tokens, w < the window.
        values: (H, w, Dv).
        context_tokens: S.
    """

    is_sliding = True

    def __init__(self, keys: Tensor, values: Tensor, context_tokens: int) -> None:
        super().__init__(context_tokens)
        self.context_keys, self.context_values = keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The mask covers the context's last w tokens too."""
        inside = self.context_keys.shape[1]
        return inside + self.tail_tokens + query_length, self.context_tokens - inside

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Append to the tail; returns the bound object twice, for key and for value."""
        dtype = self.context_keys.dtype
        self._append(key_states.to(dtype), value_states.to(dtype))
        bound = SlidingKV(self)
        return bound, bound


class SlidingKV(BoundKV):
    """What a `SlidingLayer` hands to the attention function."""

    def __init__(self, layer: SlidingLayer) -> None:
        self.layer = layer

    def attend(
        self, module: torch.nn.Module, query: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        """Dense attention to the window."""
        layer = self.layer
        assert layer.keys is not None and layer.values is not None
        rows = (len(query), -1, -1, -1)
        # A copy of at most a window per row; the context itself is never copied.
        keys = torch.cat([layer.context_keys.expand(rows), layer.keys], 2)
        values = torch.cat([layer.context_values.expand(rows), layer.values], 2)
        return sdpa_attention_forward(
            module, query.to(keys.dtype), keys, values, mask, scaling=scale
        )[0]


class SqueezedCache(Cache):
    """The cache to give to generate(): one `SqueezedLayer` or `SlidingLayer` per model layer.

    Args:
        layers: of the model, in order.
        overhead: share of the clustered keys and values that is read at a step to choose.
    """

    def __init__(self, layers: list[TailLayer], overhead: float = 0.0) -> None:
        super().__init__(layers=list(layers))
        self.overhead = overhead

    @property
    def squeezed(self) -> dict[int, SqueezedLayer]:
        """The squeezed layers by their number in the model."""
        return {n: one for n, one in enumerate(self.layers) if isinstance(one, SqueezedLayer)}

    @torch.compiler.disable
    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        """Append to a layer's tail. Not traced: a compiler would make a variant of the model for
        each state of the tail."""
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing follows the context yet."""
        first = self.layers[0]
        return isinstance(first, TailLayer) and first.tail_tokens == 0

    @property
    def keeps_all(self) -> bool:
        """Whether nothing can be dropped."""
        return all(layer.rule.keeps_all for layer in self.squeezed.values())

    def choose_each(self) -> None:
        """From now on every query chooses for itself: an answer's tokens that are read at once get
        what they would have got one by one."""
        for layer in self.squeezed.values():
            layer.choose_each()

    def forget_tail(self) -> None:
        """Free the tails; what was counted stays."""
        for layer in self.layers:
            assert isinstance(layer, TailLayer)
            TailLayer.reset(layer)
