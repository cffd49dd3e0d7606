"""How a pack is cut for the chunked scan, and where its segments begin and end in that cut.

The pack is cut into chunks of K tokens without regard to segments; a segment's first token carries
a decay of zero, which is a reset. Each direction's chunks are lanes that advance together, step by
step. The reverse direction is the same scan over the reversed pack. Legend: T tokens, S segments, K
steps per chunk, c chunks, W = 2 c lanes (direction-major).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_STEPS, MAX_STEPS = 8, 64


def choose_steps(tokens: int) -> int:
    """Chunk length: long enough that chunk borders are few, short enough that a chunk's states fit
    the cache."""
    steps = MIN_STEPS
    while steps < MAX_STEPS and steps * steps < tokens // 16:
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

    def positions(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """(step, lane - first) of the events whose lane lies in [first, last)."""
        inside = (self.lane >= first) & (self.lane < last)
        return self.step[inside], self.lane[inside] - first

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
        starts: where each segment begins in each direction (direction 1: at its last token).
        ends: where it ends.
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
        low, high = cu[:-1], cu[1:] - 1
        starts, ends = torch.stack([low, high]), torch.stack([high, low])
        return cls(
            tokens, steps, chunks, _events(starts, steps, chunks), _events(ends, steps, chunks)
        )

    def cut(self, value_2Tx: Tensor) -> Tensor:
        """(2, T, X) -> (K, W, X), both in pack order; the tail is zero. A view where no tail is
        needed."""
        missing = self.chunks * self.steps - self.tokens
        whole = F.pad(value_2Tx, (0, 0, 0, missing)) if missing else value_2Tx.contiguous()
        return whole.view(2 * self.chunks, self.steps, -1).transpose(0, 1)

    def join(self, value_KWx: Tensor) -> Tensor:
        """Undo `cut`: (K, W, X) -> (2, T, X). A view of what has the strides that `cut` gives."""
        flat = value_KWx.transpose(0, 1).reshape(2, self.chunks * self.steps, -1)
        return flat[:, : self.tokens]


def _events(times_2S: Tensor, steps: int, chunks: int) -> Events:
    lane = times_2S // steps
    lane[1] += chunks
    segment = torch.arange(times_2S.numel(), device=times_2S.device)
    return Events((times_2S % steps).flatten(), lane.flatten(), segment)
