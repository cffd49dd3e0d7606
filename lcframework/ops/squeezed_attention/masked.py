"""Attention to a fixed context through masks: every key is multiplied, what was not chosen is
masked.

It saves nothing, and needs neither a loop over blocks of queries nor a word from the device, so
many choices at once (every token of an answer chooses for itself) cost one call. Evaluations read
whole answers with it; methods that choose tokens in another way than by clusters attend with it.

Legend: B rows, H key-value heads, Hq query heads, G = Hq / H, S selection heads (H or Hq),
    Q queries, C choices per row (1: shared by all queries; or Q), N context tokens, E exact tokens,
    T tail tokens, K clusters, D head size.
"""

import torch
from torch import Tensor

from lcframework.ops.squeezed_attention.layout import FixedKV, SelectionRule
from lcframework.ops.squeezed_attention.selection import (
    LOGITS_AT_ONCE,
    queries_of,
    select_clusters,
    shared_logits,
    wide,
)


def squeezed_attention_masked(
    query: Tensor,
    fixed: FixedKV,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor,
    rule: SelectionRule,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """See `dispatch.squeezed_attention`; `tail_mask` is (B or 1, 1, Q, T) bool here.

    Raises:
        ValueError: a rule with `correct_values`, which masks cannot express.
    """
    if rule.correct_values:
        raise ValueError("backend 'masked' does not correct values; use 'segments'")
    B, Q = query.shape[0], query.shape[2]
    valid = queries_of(tail_mask, B)
    keep = choose_tokens(query, valid, fixed, rule, scale)
    out = masked_attention(query, fixed, keep, tail_key, tail_value, tail_mask, scale)
    return out, mean_kept(keep, valid, Q, wide(query.dtype))


def choose_tokens(
    query: Tensor, valid: Tensor, fixed: FixedKV, rule: SelectionRule, scale: float
) -> Tensor:
    """The clustered tokens that each query reads, (B, S, C, N) bool with C = 1 where all share one
    choice and Q otherwise."""
    B, Hq, Q, D = query.shape
    H, N = fixed.keys.shape[:2]
    S = Hq if rule.group == "none" else H
    if not N or rule.keeps_all:
        return torch.ones(B, S, 1, N, dtype=torch.bool, device=query.device)
    block = Q if rule.query_block is None else min(rule.query_block, Q)
    blocks = -(-Q // block)
    pad = blocks * block - Q
    padded = torch.nn.functional.pad(query, (0, 0, 0, pad))
    real = torch.nn.functional.pad(valid, (0, pad))
    # A block is a row of its own to the selection.
    rows = padded.view(B, Hq, blocks, block, D).transpose(1, 2).reshape(B * blocks, Hq, block, D)
    keep = select_clusters(rows, real.reshape(B * blocks, block), fixed.levels, rule, scale)
    owner = cluster_of_token(fixed).repeat_interleave(S // H, 0)
    tokens = keep.gather(2, owner.expand(len(keep), -1, -1)).view(B, blocks, S, N).transpose(1, 2)
    return tokens if blocks == 1 else tokens.repeat_interleave(block, 2)[:, :, :Q]


def cluster_of_token(fixed: FixedKV) -> Tensor:
    """(H, N) int64: the finest cluster of each stored token."""
    H, N = fixed.keys.shape[:2]
    token = torch.arange(N, device=fixed.keys.device, dtype=torch.int32).expand(H, -1)
    ends = fixed.levels[0].offsets[:, 1:].contiguous()
    return torch.searchsorted(ends, token.contiguous(), right=True)


def mean_kept(keep: Tensor, valid: Tensor, queries: int, dtype: torch.dtype) -> Tensor:
    """Tokens read, (B, S) of `dtype`, the mean over the queries that are tokens."""
    count = keep.sum(-1).to(dtype)  # (B, S, C)
    weight = valid.to(count.dtype)[:, None]
    if count.shape[2] == 1:
        count = count.expand(-1, -1, queries)
    return (count * weight).sum(-1) / weight.sum(-1).clamp(min=1)


def masked_attention(
    query: Tensor,
    fixed: FixedKV,
    keep: Tensor,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor,
    scale: float,
) -> Tensor:
    """One softmax over the chosen context tokens, the exact tokens and the tail.

    Args:
        query: (B, Hq, Q, D), rotated.
        fixed: the context; its levels are not looked at, so tokens may stand in any order.
        keep: (B, S, C, N) bool, the tokens read.
        tail_key: (B, H, T, D).
        tail_value: (B, H, T, Dv).
        tail_mask: (B or 1, 1, Q, T) bool.
        scale: factor on the logits.

    Returns:
        (B, Hq, Q, Dv) in the dtype of `query`.
    """
    B, Hq, Q, _ = query.shape
    width = fixed.length + tail_key.shape[2]
    step = max(1, LOGITS_AT_ONCE // max(1, B * Hq * width))
    outs = []
    for start in range(0, Q, step):
        part = slice(start, start + step)
        chosen = keep if keep.shape[2] == 1 else keep[:, :, part]
        outs.append(
            _attend(
                query[:, :, part], fixed, chosen, tail_key, tail_value, tail_mask[:, :, part], scale
            )
        )
    return torch.cat(outs, 2)


def _attend(
    query: Tensor,
    fixed: FixedKV,
    keep: Tensor,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor,
    scale: float,
) -> Tensor:
    B, Hq, Q, D = query.shape
    H, N = fixed.keys.shape[:2]
    S, G, dtype = keep.shape[1], Hq // H, query.dtype
    grouped = query.reshape(B, H, G * Q, D)
    among = shared_logits(grouped, fixed.keys).view(B, H, G, Q, N)
    among = among.masked_fill(~keep.view(B, H, S // H, -1, N), -torch.inf).view(B, H, G * Q, N)
    exact = shared_logits(grouped, fixed.exact_keys)
    tail = torch.matmul(grouped, tail_key.transpose(2, 3)).to(wide(dtype))
    visible = tail_mask[:, :, None].expand(B, 1, G, Q, -1).reshape(B, 1, G * Q, -1)
    tail = tail.masked_fill(~visible, -torch.inf)
    weights = (torch.cat([among, exact, tail], -1) * scale).softmax(-1).to(dtype)
    first, second, third = weights.split([N, exact.shape[-1], tail.shape[-1]], -1)
    out = _shared(first, fixed.values) + _shared(second, fixed.exact_values)
    out = out + torch.matmul(third, tail_value)
    return out.reshape(B, Hq, Q, fixed.values.shape[2])


def _shared(weight_BHRN: Tensor, values_HND: Tensor) -> Tensor:
    B, H, R, N = weight_BHRN.shape
    rows = weight_BHRN.transpose(0, 1).reshape(H, B * R, N)
    return torch.matmul(rows, values_HND).view(H, B, R, -1).transpose(0, 1)
