"""Attention inside each protein of a pack, registered with transformers' attention interface.

Legend: T tokens of the pack, S proteins (segments), L tokens of one protein, H heads, D channels of
a head.

Nothing else in transformers keeps packed proteins apart for ESM: position ids alone leave attention
free to cross the borders, and a mask over (T, T) costs the square of the pack. Here the borders
reach the attention function as a keyword argument of the model's forward, so no mask is ever built:
an implementation that is absent from transformers' mask interface gets `attention_mask=None`.

Two ways to compute the same thing:

* `varlen`: `torch.nn.attention.varlen.varlen_attn`, one kernel for the whole pack; CUDA, float16
  and bfloat16 only.
* `sdpa`: `scaled_dot_product_attention` protein by protein; every device and dtype, and the path
  for float32 on a GPU.

`auto` takes `varlen` where it can run and `sdpa` elsewhere.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

ATTENTION_NAME = "lcframework_packed"
BACKENDS = ("auto", "varlen", "sdpa")
VARLEN_DTYPES = (torch.float16, torch.bfloat16)
VARLEN_HEAD_MULTIPLE = 8
"""The flash kernel under `varlen_attn` wants head sizes in multiples of 8; others are padded with
zeros, exactly."""


@dataclass(frozen=True)
class Packing:
    """Where the proteins of a pack begin and end, made once per forward and shared by all layers.

    Attributes:
        cu_seqlens: (S+1,) int32, on the device of the tokens.
        max_len: tokens of the longest protein.
        backend: "auto", "varlen" or "sdpa".
        wanted: (M,) places in rising order, the only ones whose queries are computed in the last
            layer; None for all.
    """

    cu_seqlens: Tensor
    max_len: int
    backend: str = "auto"
    wanted: Tensor | None = None

    def everywhere(self) -> "Packing":
        """The same pack with a query at every place."""
        return self if self.wanted is None else self._everywhere

    @cached_property
    def _everywhere(self) -> "Packing":
        return replace(self, wanted=None)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each protein on the host; on a GPU the first use waits for the device, so
        `varlen` never asks."""
        return self.cu_seqlens.diff().tolist()

    @cached_property
    def query_borders(self) -> tuple[Tensor, int]:
        """`cu_seqlens` (S+1,) int32 of the queries, and a bound on the queries of one protein."""
        if self.wanted is None:
            return self.cu_seqlens, self.max_len
        borders = torch.searchsorted(self.wanted, self.cu_seqlens.long())
        return borders.int(), min(self.max_len, len(self.wanted))


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Bidirectional attention of each protein to itself; the signature is transformers' attention
    interface.

    Args:
        module: the attention layer that calls; unused.
        query: (1, H, T, D), rotated already; (1, H, M, D) with `packing.wanted`.
        key: (1, H, T, D), rotated already.
        value: (1, H, T, D).
        attention_mask: must be None.
        scaling: factor on the scores; None means D ** -0.5.
        dropout: must be 0.
        packing: the borders, handed through from the model's forward.

    Returns:
        (1, T or M, H, D) in the dtype of `value`, and None for the attention weights, which are
        never formed.

    Raises:
        ValueError: no packing, a mask, more than one row, dropout, or a backend that cannot run
            here.
    """
    if packing is None:
        raise ValueError(
            f"the attention implementation {ATTENTION_NAME!r} needs packing=Packing(cu_seqlens, "
            "max_len) among the keyword arguments of the model's forward; call ESM2, not the "
            "transformers model inside it"
        )
    if attention_mask is not None or query.shape[0] != 1 or dropout != 0.0:
        raise ValueError(
            f"{ATTENTION_NAME!r} takes one packed row without mask or dropout, got query "
            f"{tuple(query.shape)}, a mask: {attention_mask is not None}, dropout {dropout}"
        )
    # transformers 5.17 rotates in float32 under autocast and hands query and key over wider than
    # value.
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attend = _varlen if _takes_varlen(value, packing.backend) else _per_protein
    return attend(query, key, value, packing, scale), None


def _takes_varlen(value: Tensor, backend: str) -> bool:
    able = value.is_cuda and value.dtype in VARLEN_DTYPES
    if backend == "varlen" and not able:
        raise ValueError(
            "attention_backend='varlen' runs in float16 or bfloat16 on a CUDA device only, got "
            f"{value.dtype} on {value.device}; use mixed precision, or attention_backend='sdpa'"
        )
    return able and backend != "sdpa"


def _per_protein(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float) -> Tensor:
    # split, not slices: its backward is one concatenation, a slice's would fill a T-long gradient
    # per protein.
    asked = packing.query_borders[0].diff().tolist() if packing.wanted is not None else None
    lengths = (asked or packing.lengths, packing.lengths, packing.lengths)
    pieces = zip(*(x.split(n, dim=2) for x, n in zip((q, k, v), lengths, strict=True)), strict=True)
    done = [
        F.scaled_dot_product_attention(q_1HLD, k_1HLD, v_1HLD, scale=scale).transpose(1, 2)
        for q_1HLD, k_1HLD, v_1HLD in pieces
        if q_1HLD.shape[2]
    ]
    return torch.cat(done, dim=1)


def _varlen(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    head_size = q.shape[-1]
    extra = -head_size % VARLEN_HEAD_MULTIPLE
    q_THD, k_THD, v_THD = (x[0].transpose(0, 1) for x in (q, k, v))
    if extra:  # F.pad copies even where it adds nothing
        q_THD, k_THD, v_THD = (F.pad(x, (0, extra)) for x in (q_THD, k_THD, v_THD))
    cu_q, longest_q = packing.query_borders
    cu, longest = packing.cu_seqlens, packing.max_len
    out_THD = varlen_attn(q_THD, k_THD, v_THD, cu_q, cu, longest_q, longest, scale=scale)
    assert isinstance(out_THD, Tensor)  # a pair only when the log-sum-exp is asked for
    return out_THD[..., :head_size].unsqueeze(0)


AttentionInterface.register(ATTENTION_NAME, packed_attention)
