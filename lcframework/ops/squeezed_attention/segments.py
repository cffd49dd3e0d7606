"""The PyTorch path: reads only the kept segments, on any device.

Legend: B rows, H key-value heads, Hq query heads, G = Hq / H, S selection heads, R query heads per
    selection head, Q queries, T tail tokens, E exact tokens, M tokens of the fullest selection.
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


def squeezed_attention_segments(
    query: Tensor,
    fixed: FixedKV,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor,
    rule: SelectionRule,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """See `dispatch.squeezed_attention`; `tail_mask` is (B or 1, 1, Q, T) bool here."""
    B, Q = query.shape[0], query.shape[2]
    valid = queries_of(tail_mask, B)
    block = Q if rule.query_block is None else rule.query_block
    outs, kept = [], []
    for start in range(0, Q, block):
        part = slice(start, start + block)
        out, tokens = _one_block(
            query[:, :, part],
            valid[:, part],
            fixed,
            tail_key,
            tail_value,
            tail_mask[:, :, part],
            rule,
            scale,
        )
        outs.append(out)
        kept.append((tokens, valid[:, part].sum(-1, keepdim=True)))
    weight = torch.stack([count for _, count in kept]).to(wide(query.dtype))
    mean = (torch.stack([tokens for tokens, _ in kept]) * weight).sum(0)
    return torch.cat(outs, 2), mean / weight.sum(0).clamp(min=1)


def _one_block(
    query: Tensor,
    valid: Tensor,
    fixed: FixedKV,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor,
    rule: SelectionRule,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output (B, Hq, Q, Dv) and kept tokens (B, S) of queries that share a selection."""
    B, Hq = query.shape[:2]
    H, N = fixed.keys.shape[:2]
    S = Hq if rule.group == "none" else H
    keep = None
    if N and not rule.keeps_all:
        keep = select_clusters(query, valid, fixed.levels, rule, scale)
        sizes_SK = fixed.levels[0].sizes.repeat_interleave(S // H, 0)
        tokens = (keep * sizes_SK).sum(-1).to(wide(query.dtype))
        gathered = gather_segments(keep, fixed)
    else:
        tokens = torch.full((B, S), float(N), dtype=wide(query.dtype), device=query.device)
        gathered = None
    width = fixed.exact_keys.shape[1] + tail_key.shape[2]
    width += N if gathered is None else gathered[0].shape[2]
    if keep is not None and rule.correct_values:
        width += keep.shape[-1]
    step = max(1, LOGITS_AT_ONCE // max(1, B * Hq * width))
    outs = [
        _attend(
            query[:, :, start : start + step],
            fixed,
            gathered,
            keep,
            tail_key,
            tail_value,
            tail_mask[:, :, start : start + step],
            rule,
            scale,
        )
        for start in range(0, query.shape[2], step)
    ]
    return torch.cat(outs, 2), tokens


def gather_segments(keep: Tensor, fixed: FixedKV) -> tuple[Tensor, Tensor, Tensor]:
    """The kept tokens' keys and values, padded to the fullest selection.

    Args:
        keep: (B, S, K) bool.
        fixed: the context.

    Returns:
        keys (B, S, M, D), values (B, S, M, Dv), present (B, S, M) bool.
    """
    B, S, _ = keep.shape
    H, N, D = fixed.keys.shape
    offsets = fixed.levels[0].offsets
    row, head, cluster = keep.nonzero(as_tuple=True)
    kv_head = head // (S // H)
    start = offsets[kv_head, cluster].long()
    length = offsets[kv_head, cluster + 1].long() - start
    slot = row * S + head  # ascending: nonzero lists rows, heads and clusters in order
    before = length.cumsum(0) - length
    counts = torch.zeros(B * S, dtype=torch.long, device=keep.device).index_add_(0, slot, length)
    first = counts.cumsum(0) - counts
    longest = int(counts.max()) if counts.numel() else 0
    step = torch.arange(int(length.sum()), device=keep.device)
    token = (
        (start - before).repeat_interleave(length) + step + N * kv_head.repeat_interleave(length)
    )
    slots = slot.repeat_interleave(length)
    place = slots * longest + step - first[slots]
    index = token.new_zeros(B * S * longest).scatter_(0, place, token)
    present = torch.arange(longest, device=keep.device) < counts[:, None]
    keys = fixed.keys.reshape(H * N, D)[index].view(B, S, longest, D)
    values = fixed.values.reshape(H * N, -1)[index].view(B, S, longest, fixed.values.shape[2])
    return keys, values, present.view(B, S, longest)


def _attend(
    query: Tensor,
    fixed: FixedKV,
    gathered: tuple[Tensor, Tensor, Tensor] | None,
    keep: Tensor | None,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor,
    rule: SelectionRule,
    scale: float,
) -> Tensor:
    """One softmax over kept segments, exact tokens, tail and, if asked for, dropped clusters."""
    B, Hq, Q, D = query.shape
    H = fixed.keys.shape[0]
    G, dtype = Hq // H, query.dtype
    grouped = query.reshape(B, H, G * Q, D)
    parts: list[tuple[Tensor, str, Tensor]] = []  # logits (B, H, G*Q, n), how to apply, values
    if gathered is None:
        if fixed.clustered:
            parts.append((shared_logits(grouped, fixed.keys), "shared", fixed.values))
    else:
        keys, values, present = gathered
        S = keys.shape[1]
        rows = query.reshape(B, S, Hq // S * Q, D)
        logits = torch.matmul(rows, keys.transpose(2, 3)).to(wide(dtype))
        logits = logits.masked_fill(~present[:, :, None], -torch.inf)
        parts.append((logits.view(B, H, G * Q, keys.shape[2]), "own", values))
    parts.append((shared_logits(grouped, fixed.exact_keys), "shared", fixed.exact_values))
    tail = torch.matmul(grouped, tail_key.transpose(2, 3)).to(wide(dtype))
    visible = tail_mask[:, :, None].expand(B, 1, G, Q, -1).reshape(B, 1, G * Q, -1)
    parts.append((tail.masked_fill(~visible, -torch.inf), "own", tail_value))
    scaled = [logits * scale for logits, _, _ in parts]
    if keep is not None and rule.correct_values:
        assert fixed.value_centroids is not None
        level = fixed.levels[0]
        logits = shared_logits(grouped, level.centroids.to(dtype)) * scale
        logits = (logits + level.sizes.to(logits.dtype).log()[:, None]).view(B, H, G, Q, -1)
        kept = keep.view(B, H, -1, 1, keep.shape[-1])
        scaled.append(logits.masked_fill(kept, -torch.inf).view(B, H, G * Q, -1))
        parts.append((scaled[-1], "shared", fixed.value_centroids.to(dtype)))
    weights = torch.cat(scaled, -1).softmax(-1).to(dtype)
    out = torch.zeros((), dtype=dtype, device=query.device)
    for weight, (_, how, values) in zip(
        weights.split([part.shape[-1] for part in scaled], -1), parts, strict=True
    ):
        if how == "shared":
            n, Dv = values.shape[1:]
            rows = weight.transpose(0, 1).reshape(H, B * G * Q, n)
            out = out + torch.matmul(rows, values).view(H, B, G * Q, Dv).transpose(0, 1)
        else:
            S = values.shape[1]
            rows = weight.reshape(B, S, Hq // S * Q, weight.shape[-1])
            out = out + torch.matmul(rows, values).view(B, H, G * Q, values.shape[-1])
    return out.reshape(B, Hq, Q, fixed.values.shape[2])
