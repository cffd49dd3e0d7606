"""Small numpy helpers for many variable-length pieces stored behind one another."""

import numpy as np
from numpy.typing import NDArray


def range_indices(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`concatenate([arange(s, s + n) for s, n in zip(starts, lengths)])` without a loop."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)


def gather_ranges(
    values: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The pieces `values[s : s + n]` behind one another.

    Args:
        values: (N,) uint8, memory-mapped or not.
        starts: (R,) int64.
        lengths: (R,) int64.

    Returns:
        (sum of lengths,) uint8.
    """
    return values[range_indices(starts, lengths)]


def segment_sums(flags: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many flags are set from each start to the next (the last one to the end).

    Args:
        flags: (N,) bool.
        starts: (R,) int64, strictly increasing.

    Returns:
        (R,) int64.
    """
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    return np.add.reduceat(flags, starts, dtype=np.int64)
