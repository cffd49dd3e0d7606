"""How the Triton scan shares a pack among programs.

A work item is a segment, or a piece of a long one. Pieces cost a second pass over the pack, which
finds what enters each of them; so a segment is cut only if it would keep one program busy for
long, and then finely. Segments of about equal length stay whole unless cutting is predicted to pay
(`tiles.Costs`). The host never waits for the device: the number of items is bounded from above,
items beyond the last are empty.

Legend: T tokens, S segments, I work items, K spans (pieces of items after which the backward walks
start their sums anew)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcframework.ops.bidirectional_scan.tiles import Costs
from lcframework.ops.pack_cache import kept_with

SHORTEST_PIECE = 256
LONGEST_WHOLE, FINE = 0.5, 0.2
"""A segment is cut from this many times a multiprocessor quarter's even share of all steps on, into
pieces of the second many times that share."""
CHANNELS_PER_WARP = 64


@dataclass(frozen=True)
class WorkItems:
    """The work items of one pack, on its device, in the pack's order.

    Attributes:
        count: I, an upper bound.
        n_spans: K, an upper bound.
        bounds: (I, 2) int64 first token and the one after the last.
        links: (I, 2) int32, whether the segment goes on before and after the item in the pack.
        spans: (I,) index of the item's first span.
        first: (S+1,) first item of each segment.
        order: (I,) items by falling length, so that long ones start first.
        split: whether a segment may have several items.
    """

    count: int
    n_spans: int
    bounds: Tensor
    links: Tensor
    spans: Tensor
    first: Tensor
    order: Tensor
    split: bool

    @classmethod
    def cut(
        cls, cu_seqlens: Tensor, tokens: int, longest: int, whole: int, piece: int, span: int
    ) -> "WorkItems":
        """Cut segments of more than `whole` tokens into pieces of at most `piece`, if there can be
        such: `longest` bounds the segments' lengths (were one longer, it would stay whole)."""
        cu = cu_seqlens.long()
        lengths = cu.diff()
        pieces = torch.where(lengths > whole, (lengths + piece - 1) // piece, 1)
        if longest <= whole:
            pieces = torch.ones_like(lengths)
        first = torch.cat([pieces.new_zeros(1), pieces.cumsum(0)])
        count = item_count(tokens, longest, lengths.numel(), whole, piece)
        index = torch.arange(count, device=cu.device)
        segment = torch.searchsorted(first[1:].contiguous(), index, right=True)
        segment = segment.clamp(max=lengths.numel() - 1)
        steps = torch.where(pieces[segment] > 1, piece, lengths[segment])
        end = cu[segment + 1]
        start = torch.minimum(cu[segment] + (index - first[segment]) * steps, end)
        stop = torch.minimum(start + steps, end)
        spans = (stop - start + span - 1) // span
        return cls(
            count,
            tokens // span + count,
            torch.stack([start, stop], 1).contiguous(),
            torch.stack([start > cu[segment], stop < end], 1).int().contiguous(),
            spans.cumsum(0) - spans,
            first,
            (start - stop).argsort(stable=True).int(),
            longest > whole,
        )


def item_count(tokens: int, longest: int, segments: int, whole: int, piece: int) -> int:
    """I, how many items a pack can have at most."""
    return segments + (tokens // piece if longest > whole else 0)


def lengths_for(
    tokens: int, longest: int, segments: int, channels: int, quarters: int, costs: Costs
) -> tuple[int, int]:
    """(longest whole segment, length of a piece); arguments as `work_items`, and S."""
    share = tokens * -(-channels // CHANNELS_PER_WARP) / quarters
    whole = max(SHORTEST_PIECE, int(LONGEST_WHOLE * share))
    piece = max(SHORTEST_PIECE, int(FINE * share))
    if segments * longest > 2 * tokens:
        return whole, piece
    warps = -(-2 * segments * -(-channels // CHANNELS_PER_WARP) // quarters)
    uncut = longest * {1: costs.alone, 2: costs.pair}.get(warps, warps)
    return (longest, piece) if uncut <= 2 * share * (1 + costs.again) else (whole, piece)


def work_items(
    cu_seqlens: Tensor,
    tokens: int,
    longest: int,
    channels: int,
    quarters: int,
    span: int,
    costs: Costs,
) -> WorkItems:
    """The items of a pack, kept with `cu_seqlens`: the layers of a network share one pack.

    Args:
        cu_seqlens: (S+1,) on the device.
        tokens: T.
        longest: no segment is longer.
        channels: E.
        quarters: four times the GPU's number of multiprocessors.
        span: steps of a span.
        costs: what cutting costs on this GPU.
    """
    segments = cu_seqlens.numel() - 1
    lengths = lengths_for(tokens, longest, segments, channels, quarters, costs)
    cut = (tokens, longest, *lengths, span)
    return kept_with(cu_seqlens, ("work items", *cut), lambda: WorkItems.cut(cu_seqlens, *cut))
