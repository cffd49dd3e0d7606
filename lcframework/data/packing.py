"""Forming packs: which proteins share a batch, so that similar lengths meet and packs are full."""

import heapq
from bisect import bisect_right
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WINDOW_PROTEINS = 16384
"""Proteins of a shuffle window: those among which similar lengths are brought together."""
MIN_WINDOWS = 8
"""A small data set is cut into at least this many windows, so that its packs differ by epoch."""
MIN_WINDOW_PROTEINS = 128

Packs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Protein indices in pack order, and the borders of the packs in them: (n,) and (packs + 1,)."""


def packs_in_order(lengths: NDArray[np.int64], max_tokens: int) -> Packs:
    """Packs of consecutive proteins, each as long as the budget allows.

    Args:
        lengths: (n,) int64 tokens per protein, special tokens included.
        max_tokens: budget of a pack; a longer protein gets a pack of its own.

    Returns:
        The packs, in the order of the proteins.
    """
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    following = np.searchsorted(ends, ends[:-1] + max_tokens, side="right") - 1
    following = np.maximum(following, np.arange(1, len(lengths) + 1)).tolist()
    borders = [0]
    while borders[-1] < len(lengths):
        borders.append(following[borders[-1]])
    return np.arange(len(lengths)), np.array(borders)


def packs_by_length(lengths: NDArray[np.int64], order: NDArray[np.int64], max_tokens: int) -> Packs:
    """Packs of proteins of similar length, topped up with short ones.

    The order is cut into windows; `_fill_window` packs each one. The last pack of a window is
    usually not full, so the windows' last packs are taken apart and packed once more, together.

    Args:
        lengths: (n,) int64 tokens per protein, special tokens included.
        order: (n,) int64 a permutation of the proteins.
        max_tokens: budget of a pack; a longer protein gets a pack of its own.

    Returns:
        The packs, window by window.
    """
    window = max(MIN_WINDOW_PROTEINS, min(WINDOW_PROTEINS, -(-len(order) // MIN_WINDOWS)))
    indices: list[NDArray[np.int64]] = []
    borders: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    leftovers: list[NDArray[np.int64]] = []
    placed = 0
    for start in range(0, len(order), window):
        members, ends = _fill_window(lengths, order[start : start + window], max_tokens)
        if len(order) > window:
            cut = ends[-2] if len(ends) > 1 else 0
            leftovers.append(members[cut:])
            members, ends = members[:cut], ends[:-1]
        indices.append(members)
        borders.append(ends + placed)
        placed += len(members)
    if leftovers:
        members, ends = _fill_window(lengths, np.concatenate(leftovers), max_tokens)
        indices.append(members)
        borders.append(ends + placed)
    return np.concatenate(indices), np.concatenate(borders)


def _fill_window(
    lengths: NDArray[np.int64], members: NDArray[np.int64], max_tokens: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pack one window: each pack is a run of the longest proteins left, then of the shortest left.

    The long run brings similar lengths together; the short run closes the gap that a whole number
    of long proteins leaves. Both are runs of the sorted window, so each costs one bisection.

    Returns:
        The members in pack order, and the end of each pack.
    """
    members = members[np.argsort(lengths[members], kind="stable")]
    ends = np.cumsum(lengths[members]).tolist()
    low, high = 0, len(members)
    runs: list[tuple[int, int]] = []
    pack_ends: list[int] = []
    while low < high:
        # Longs: the run [first, high) must fit; at least one goes in, whatever its length.
        total = ends[high - 1]
        first = (
            bisect_right(ends, total - max_tokens - 1, low, high) + 1 if total > max_tokens else 0
        )
        first = max(low, min(first, high - 1))
        gap = max_tokens - (total - (ends[first - 1] if first else 0))
        below = ends[low - 1] if low else 0
        last = bisect_right(ends, below + gap, low, first) if gap > 0 else low
        runs += [(first, high), (low, last)]
        pack_ends.append((pack_ends[-1] if pack_ends else 0) + high - first + last - low)
        low, high = last, first
    starts, stops = np.array(runs, dtype=np.int64).T
    counts = stops - starts
    into = np.arange(len(members)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    return members[into], np.array(pack_ends, dtype=np.int64)


def split_packs(packs: Packs, lengths: NDArray[np.int64], count: int) -> Packs:
    """Cut packs of several proteins until there are `count`.

    The fullest pack with more than one protein is halved (by proteins), again and again.

    Args:
        packs: the packs.
        lengths: (n,) int64 tokens per protein.
        count: wanted number of packs; at least the present one, at most the number of proteins.

    Returns:
        `count` packs.
    """
    indices, borders = packs
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[indices])])
    heap = [
        (-int(ends[stop] - ends[start]), start, stop)
        for start, stop in pairwise(borders.tolist())
        if stop - start > 1
    ]
    heapq.heapify(heap)
    new: list[int] = []
    while len(borders) - 1 + len(new) < count:
        _, start, stop = heapq.heappop(heap)
        middle = (start + stop) // 2
        new.append(middle)
        for piece in ((start, middle), (middle, stop)):
            if piece[1] - piece[0] > 1:
                heapq.heappush(heap, (-int(ends[piece[1]] - ends[piece[0]]), *piece))
    return indices, np.sort(np.concatenate([borders, np.array(new, dtype=np.int64)]))


def merge_packs(packs: Packs, lengths: NDArray[np.int64], count: int) -> Packs:
    """Join the smallest packs pairwise until there are `count`, over budget if it must be.

    Needed only where ranks outnumber what splitting can serve, such as three long proteins on two
    ranks: every rank must take the same number of steps, and no protein may be lost.
    """
    indices, borders = packs
    pieces = np.split(indices, borders[1:-1])
    heap = [(int(lengths[piece].sum()), number, piece) for number, piece in enumerate(pieces)]
    heapq.heapify(heap)
    number = len(heap)
    while len(heap) > count:
        (size_a, _, a), (size_b, _, b) = heapq.heappop(heap), heapq.heappop(heap)
        number += 1
        heapq.heappush(heap, (size_a + size_b, number, np.concatenate([a, b])))
    joined = [piece for _, _, piece in sorted(heap, key=lambda entry: entry[1])]
    sizes = [len(piece) for piece in joined]
    return np.concatenate(joined), np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
