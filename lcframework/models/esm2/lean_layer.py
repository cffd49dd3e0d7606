"""ESM-2's layer without gradients: the same weights and numbers, fewer passes over the memory.

transformers writes GELU as five elementwise operations, rotates query and key in about ten, and
under autocast casts the output of one layer norm for each of its three projections. On a GPU this
costs as much as the matrix products. Where no gradient is wanted, nothing has to be kept, so

* GELU is one kernel, the exact one (`erf`), computed in float32 inside;
* a layer norm's output is cast once;
* query and key are rotated in four kernels, in float32, the factor D^-0.5 goes to the attention;
* the last layer is computed at the wanted places only: keys and values everywhere, the rest there.

With gradients the layer is transformers' own. Legend: T tokens, M wanted places, H heads, D
channels of a head, d model width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.esm.modeling_esm import EsmLayer

from lcframework.models.esm2.attention import Packing, packed_attention


class LeanEsmLayer(EsmLayer):
    """transformers' `EsmLayer`, which takes the short way through a pack where no gradient is
    wanted. Parameters, names and hooks are those of `EsmLayer`.

    Attributes:
        is_last: whether only the places `packing.wanted` are needed behind this layer.
    """

    is_last = False

    def forward(self, hidden_states: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
        """(1, T, d) to (1, T, d), or (1, M, d) in the last layer of a pack with wanted places."""
        packing = keywords.get("packing")
        if torch.is_grad_enabled() or not isinstance(packing, Packing):
            return super().forward(hidden_states, *arguments, **keywords)
        return self._lean(hidden_states, keywords["position_embeddings"], packing)

    def _lean(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], packing: Packing) -> Tensor:
        attention: Any = self.attention
        dtype = _working_dtype(hidden)
        normed = attention.LayerNorm(hidden).to(dtype)
        asked, asking = normed, rotation
        if self.is_last and packing.wanted is not None:
            at = packing.wanted
            hidden, asked, asking = hidden[:, at], normed[:, at], _rows(rotation, at)
        else:
            packing = packing.everywhere()
        part, heads = attention.self, attention.self.num_attention_heads
        query = _rotated(_by_head(part.query(asked), heads), asking)
        key = _rotated(_by_head(part.key(normed), heads), rotation)
        value = _by_head(part.value(normed), heads)
        mixed, _ = packed_attention(
            part,
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            None,
            scaling=part.attention_head_size**-0.5,
            packing=packing,
        )
        hidden = hidden + attention.output.dense(mixed.flatten(2))
        wide = self.intermediate.dense(self.LayerNorm(hidden).to(dtype))
        return hidden.add_(self.output.dense(F.gelu(wide)))


def _working_dtype(hidden: Tensor) -> torch.dtype:
    """What the matrix products run in."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:-1], heads, -1)


def _rows(rotation: tuple[Tensor, Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = rotation
    return cos[:, at], sin[:, at]


def _rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions of (1, T, H, D), computed in float32, returned in the dtype of `x`.

    `rotation` holds cosines and sines (1, T, D), both halves of the channels alike.
    """
    half = x.shape[-1] // 2
    cos, sin = (one[..., None, :half].float() for one in rotation)
    first, second, out = x[..., :half], x[..., half:], torch.empty_like(x)
    product = first * cos
    torch.addcmul(product, second, sin, value=-1, out=out[..., :half])
    torch.mul(second, cos, out=product)
    torch.addcmul(product, first, sin, out=out[..., half:])
    return out
