"""How the CPU kernels cut a pack into tasks, and running them.

A task is one tile of channels of one piece of the pack, a run of whole segments. The cut depends on
sizes only and every sum over tasks has a fixed order: results do not depend on the number of
threads, and two runs give the same bits.

Legend: T tokens, S segments, E channels, P pieces.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lcframework.ops.cpu.compile import launch
from lcframework.ops.cpu.threads import run_tasks

TILE = 64
"""Channels of one task: enough for whole vectors, few enough for the first-level cache."""
WANTED_TASKS = 32
SHORTEST_PIECE = 512
"""Tokens below which another piece costs more than it spreads."""
SMALL = 1 << 18
"""Work, in innermost iterations, below which one thread is fastest."""


class Cut(NamedTuple):
    """How the pack is cut.

    Attributes:
        borders: (S+1,) first token of each segment.
        pieces: (P+1,) first segment of each piece.
        blocks: (S+1,) first block of each segment.
    """

    borders: Any
    pieces: Any
    blocks: Any


@dataclass(frozen=True)
class Plan:
    """The cut of one call.

    Attributes:
        cut: see `Cut`.
        tiles: channel tiles.
        pieces: P.
        blocks: blocks of all segments.
        parallel: whether threads pay.
    """

    cut: Cut
    tiles: int
    pieces: int
    blocks: int
    parallel: bool

    @classmethod
    def of(cls, cu_seqlens: Tensor, tokens: int, channels: int, block: int, work: int) -> "Plan":
        """Cut a pack.

        Args:
            cu_seqlens: (S+1,) borders.
            tokens: T.
            channels: E.
            block: tokens of a block; the last block of a segment may be shorter.
            work: innermost iterations per token and channel.

        Raises:
            ValueError: borders that would lead a kernel out of its arrays.
        """
        borders = cu_seqlens.detach().cpu().numpy().astype(np.int64)
        if borders[0] != 0 or borders[-1] != tokens or (np.diff(borders) < 0).any():
            raise ValueError(f"cu_seqlens must rise from 0 to T={tokens}, got {borders[:8]}...")
        tiles = -(-channels // TILE)
        length = max(SHORTEST_PIECE, -(-tokens * tiles // WANTED_TASKS))
        first = np.flatnonzero(np.diff(borders[:-1] // length, prepend=-1))
        blocks = np.zeros_like(borders)
        np.cumsum(-(-np.diff(borders) // block), out=blocks[1:])
        cut = Cut(borders, np.append(first, len(borders) - 1), blocks)
        parallel = tokens * channels * work >= SMALL
        return cls(cut, tiles, len(first), int(blocks[-1]), parallel)

    def run(self, kernel: Any, *arguments: Any) -> None:
        """Run all tasks of `kernel(cut, first, last, *arguments)`."""
        run_tasks(
            lambda first, last: launch(kernel, self.cut, first, last, *arguments),
            self.tiles * self.pieces,
            self.parallel,
        )


def view(tensor: Tensor) -> np.ndarray:
    """The tensor's memory; bfloat16 as its bits."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def flat(rows: Tensor) -> tuple[np.ndarray, int]:
    """Memory of (T, E) rows, which may lie apart, from their first element on; and the stride from
    one row to the next."""
    if rows.stride(1) != 1 and rows.shape[1] > 1:
        rows = rows.contiguous()
    length = (rows.shape[0] - 1) * rows.stride(0) + rows.shape[1]
    return view(rows.detach().as_strided((length,), (1,))), rows.stride(0)


def sum_in_order(shares: Tensor) -> Tensor:
    """Sum over the first dimension, first to last whatever the number of threads."""
    total = shares[0]
    for share in shares[1:]:
        total += share
    return total


def applied(function: Any, *arguments: Any) -> Any:
    """`function.apply(*arguments)` of an autograd function, which torch.compile must not enter."""
    if torch.compiler.is_compiling():
        from lcframework.ops.cpu import eager

        return eager.apply(function, *arguments)
    return function.apply(*arguments)
