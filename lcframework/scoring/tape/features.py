"""What a sequence says without a network: windows of letters, and counts of short words.

Legend: L residues, 20 standard amino acids; other letters count nowhere.
"""

import numpy as np
from numpy.typing import NDArray

HALF_WINDOW = 7
LETTERS = 20


def one_hot(residues: NDArray[np.integer]) -> NDArray[np.float32]:
    """(L, 20) from residue numbers 0 to 19; others are rows of zeros."""
    found = np.zeros((len(residues), LETTERS), dtype=np.float32)
    standard = np.flatnonzero((residues >= 0) & (residues < LETTERS))
    found[standard, residues[standard]] = 1.0
    return found


def one_hot_windows(residues: NDArray[np.integer], half: int = HALF_WINDOW) -> NDArray[np.float32]:
    """(L, 20 (2 half + 1)): the letters of each residue and its neighbours, zeros off the ends."""
    padded = np.pad(one_hot(residues), ((half, half), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return windows.transpose(0, 2, 1).reshape(len(residues), -1)


def word_frequencies(residues: NDArray[np.integer]) -> NDArray[np.float32]:
    """(20 + 400,): frequencies of letters, then of pairs of neighbours (k-mers of 1 and 2)."""
    inside = (residues >= 0) & (residues < LETTERS)
    letters = np.bincount(residues[inside], minlength=LETTERS)
    both = inside[:-1] & inside[1:]
    pairs = residues[:-1][both].astype(np.int64) * LETTERS + residues[1:][both]
    counts = np.bincount(pairs, minlength=LETTERS * LETTERS)
    return np.concatenate(
        [letters / max(1, len(residues)), counts / max(1, len(residues) - 1)]
    ).astype(np.float32)
