"""Counter-based random numbers: a number is a pure function of what it is for, with no state.

Every draw is splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators")
at a counter. A protein's mask therefore depends on (seed, epoch, protein, position) and on nothing
else: not on the worker, the rank, the batch it is packed into, or how often a run was resumed.
The integers are ours to the last bit, so they do not change with a numpy or torch release.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_MASK_64 = (1 << 64) - 1


class Stream(IntEnum):
    """What a draw is for; streams with different names are independent."""

    TRAIN_MASK = 1
    VALID_MASK = 2
    TEST_MASK = 3
    CROP = 4
    PROTEIN_ORDER = 5
    BATCH_ORDER = 6
    CONTEXT_TARGET = 7
    LONG_TEST_SET = 8
    NEGATIVE_WALK = 9
    PROTEIN_SPLIT = 10


def _mix_int(value: int) -> int:
    value &= _MASK_64
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK_64
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK_64
    return value ^ (value >> 31)


def _mix_in_place(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values ^= values >> np.uint64(30)
    values *= np.uint64(_MIX_1)
    values ^= values >> np.uint64(27)
    values *= np.uint64(_MIX_2)
    values ^= values >> np.uint64(31)
    return values


def stream_key(seed: int, epoch: int, stream: Stream) -> int:
    """The 64-bit key of one stream in one epoch, folded from its three parts in order."""
    key = _mix_int(seed + _GOLDEN)
    key = _mix_int(key + (epoch + 1) * _GOLDEN)
    return _mix_int(key + int(stream) * _GOLDEN)


def draw(key: int | NDArray[np.uint64], counters: NDArray[np.integer]) -> NDArray[np.uint64]:
    """64 random bits for each counter.

    Args:
        key: one key, or an array of keys of the same shape as `counters`.
        counters: non-negative integers, any shape.

    Returns:
        uint64 of the shape of `counters`.
    """
    values = counters.astype(np.uint64)
    values += np.uint64(1)
    values *= np.uint64(_GOLDEN)
    values += np.uint64(key) if isinstance(key, int) else key
    return _mix_in_place(values)


def permutation(key: int, count: int) -> NDArray[np.int64]:
    """A random permutation of `range(count)`, the same on every machine and numpy release.

    The upper half of each hash is sorted with the index in the lower half, which is one in-place
    sort of 64-bit integers and breaks the rare ties by index.

    Args:
        key: the stream's key.
        count: fewer than 2**32.

    Returns:
        (count,) int64.
    """
    if count >= 1 << 32:
        raise ValueError(f"cannot permute {count} items: the index must fit in 32 bits")
    index = np.arange(count, dtype=np.uint64)
    keyed = draw(key, index)
    keyed &= np.uint64(0xFFFFFFFF00000000)
    keyed |= index
    keyed.sort()
    keyed &= np.uint64(0xFFFFFFFF)
    return keyed.view(np.int64)
