"""How a pack is cut for the chunked scan, and where its segments begin and end in that cut.

The pack is cut into chunks of K tokens without regard to segments; a segment's first token carries
a decay of zero, which is a reset. Each direction's chunks are lanes that advance together, step by
step. The reverse direction is the same scan over the reversed pack. Legend: T tokens, S segments, K
steps per chunk, c chunks, W = 2 c lanes (direction-major).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MIN_STEPS, MAX_STEPS = 8, 64


def choose_steps(tokens: int) -> int:
    """Chunk length: long enough that chunk borders are few, short enough that a chunk's states fit
    the cache."""
    steps = MIN_STEPS
    while steps < MAX_STEPS and steps * steps < tokens // 8:
        steps *= 2
    return steps


@dataclass(frozen=True)
class Events:
    """Segment borders as (step, lane, segment) triples of one direction-major cut, sorted by step.

    Attributes:
        step: (2 S,) position inside the chunk.
        lane: (2 S,) lane index in 0..W.
        segment: (2 S,) index into the flattened (2, S) states.
    """

    step: Tensor
    lane: Tensor
    segment: Tensor

    def in_lanes(self, first: int, last: int) -> dict[int, tuple[Tensor, Tensor]]:
        """step -> (lane - first, segment) for the events whose lane lies in [first, last)."""
        inside = (self.lane >= first) & (self.lane < last)
        step, lane, segment = self.step[inside], self.lane[inside] - first, self.segment[inside]
        found = {}
        for value in step.unique().tolist():
            here = step == value
            found[value] = (lane[here], segment[here])
        return found


@dataclass(frozen=True)
class Layout:
    """The cut of one pack.

    Attributes:
        tokens: T.
        steps: K.
        chunks: c, so that c K >= T.
        starts: first token of each segment and direction.
        ends: last token of each segment and direction.
    """

    tokens: int
    steps: int
    chunks: int
    starts: Events
    ends: Events

    @classmethod
    def of(cls, cu_seqlens: Tensor, tokens: int) -> "Layout":
        """Cut a pack of `tokens` tokens with borders `cu_seqlens` (S+1,)."""
        steps = choose_steps(tokens)
        chunks = -(-tokens // steps)
        cu = cu_seqlens.long()
        starts = torch.stack([cu[:-1], tokens - cu[1:]])
        ends = torch.stack([cu[1:] - 1, tokens - 1 - cu[:-1]])
        return cls(
            tokens, steps, chunks, _events(starts, steps, chunks), _events(ends, steps, chunks)
        )

    def cut(self, value_2Tx: Tensor) -> Tensor:
        """(2, T, X) in pack order -> (K, W, X) in each direction's own time; the tail is zero."""
        padded = value_2Tx.new_zeros(2, self.chunks * self.steps, value_2Tx.shape[2])
        padded[0, : self.tokens] = value_2Tx[0]
        padded[1, : self.tokens] = value_2Tx[1].flip(0)
        return padded.view(2 * self.chunks, self.steps, -1).transpose(0, 1).contiguous()

    def join(self, value_KWx: Tensor) -> Tensor:
        """Undo `cut`: (K, W, X) -> (2, T, X) in pack order."""
        flat = value_KWx.transpose(0, 1).reshape(2, self.chunks * self.steps, -1)[:, : self.tokens]
        return torch.stack([flat[0], flat[1].flip(0)])


def _events(times_2S: Tensor, steps: int, chunks: int) -> Events:
    lane = times_2S // steps
    lane[1] += chunks
    segment = torch.arange(times_2S.numel(), device=times_2S.device)
    return Events((times_2S % steps).flatten(), lane.flatten(), segment)
