"""What needs no network: BLOSUM62, and the mean measurement at the mutated positions.

A user reads a model's score beside these. BLOSUM62 (Henikoff and Henikoff 1992) knows letters and
no protein. The position mean knows the assay's own measurements at the position and no letter: it
is supervised, so a zero-shot model that beats it has learned more than which positions matter.

Legend: N variants, M mutations in all.
"""

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
BLOSUM62_LETTERS = "ARNDCQEGHILKMFPSTWYV"
_BLOSUM62 = """
 4 -1 -2 -2  0 -1 -1  0 -2 -1 -1 -1 -1 -2 -1  1  0 -3 -2  0
-1  5  0 -2 -3  1  0 -2  0 -3 -2  2 -1 -3 -2 -1 -1 -3 -2 -3
-2  0  6  1 -3  0  0  0  1 -3 -3  0 -2 -3 -2  1  0 -4 -2 -3
-2 -2  1  6 -3  0  2 -1 -1 -3 -4 -1 -3 -3 -1  0 -1 -4 -3 -3
 0 -3 -3 -3  9 -3 -4 -3 -3 -1 -1 -3 -1 -2 -3 -1 -1 -2 -2 -1
-1  1  0  0 -3  5  2 -2  0 -3 -2  1  0 -3 -1  0 -1 -2 -1 -2
-1  0  0  2 -4  2  5 -2  0 -3 -3  1 -2 -3 -1  0 -1 -3 -2 -2
 0 -2  0 -1 -3 -2 -2  6 -2 -4 -4 -2 -3 -3 -2  0 -2 -2 -3 -3
-2  0  1 -1 -3  0  0 -2  8 -3 -3 -1 -2 -1 -2 -1 -2 -2  2 -3
-1 -3 -3 -3 -1 -3 -3 -4 -3  4  2 -3  1  0 -3 -2 -1 -3 -1  3
-1 -2 -3 -4 -1 -2 -3 -4 -3  2  4 -2  2  0 -3 -2 -1 -2 -1  1
-1  2  0 -1 -3  1  1 -2 -1 -3 -2  5 -1 -3 -1  0 -1 -3 -2 -2
-1 -1 -2 -3 -1  0 -2 -3 -2  1  2 -1  5  0 -2 -1 -1 -1 -1  1
-2 -3 -3 -3 -2 -3 -3 -3 -1  0  0 -3  0  6 -4 -2 -2  1  3 -1
-1 -2 -2 -1 -3 -1 -1 -2 -2 -3 -3 -1 -2 -4  7 -1 -1 -4 -3 -2
 1 -1  1  0 -1  0  0  0 -1 -2 -2  0 -1 -2 -1  4  1 -3 -2 -2
 0 -1  0 -1 -1 -1 -1 -2 -2 -1 -1 -1 -1 -2 -1  1  5 -2 -2  0
-3 -3 -4 -4 -2 -2 -3 -2 -2 -3 -2 -3 -1  1 -4 -3 -2 11  2 -3
-2 -2 -2 -3 -2 -1 -2 -3  2 -1 -1 -2 -1  3 -3 -2 -2  2  7 -1
 0 -3 -3 -3 -1 -2 -2 -3 -3  3  1 -2  1 -1 -2 -2  0 -3 -1  4
"""


def _table() -> NDArray[np.float64]:
    table = np.zeros((256, 256))
    codes = np.frombuffer(BLOSUM62_LETTERS.encode(), dtype=np.uint8)
    rows = np.array([line.split() for line in _BLOSUM62.strip().splitlines()], dtype=np.float64)
    table[np.ix_(codes, codes)] = rows
    return table


BLOSUM62: NDArray[np.float64] = _table()
"""(256, 256) half-bits by ASCII codes; 0 for letters other than the 20."""


def blosum62_scores(
    owner: NDArray[np.int64], wild: NDArray[np.uint8], mutant: NDArray[np.uint8], n: int
) -> NDArray[np.float64]:
    """Sum of BLOSUM62(wild type, new letter) over each variant's mutations.

    Args:
        owner: (M,) variant of each mutation.
        wild: (M,) ASCII codes of the target's letters.
        mutant: (M,) ASCII codes of the new letters.
        n: N.

    Returns:
        (N,) half-bits.
    """
    return np.bincount(owner, BLOSUM62[wild, mutant], n).astype(np.float64)


def position_mean_scores(
    owner: NDArray[np.int64],
    positions: NDArray[np.int64],
    measured: NDArray[np.float64],
    folds: int = FOLDS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Cross-validated mean measurement at the mutated positions.

    Variants are dealt into folds; a variant's score is the sum over its positions of (mean of the
    variants outside its fold that change the position, minus the mean of all outside its fold).
    Leaving out one variant instead of a fold would make scores at one position run against the
    measurements exactly. A position that no variant outside the fold changes contributes 0.

    Args:
        owner: (M,) variant of each mutation.
        positions: (M,) its position.
        measured: (N,) measurements.
        folds: at most N are used.
        seed: of the dealing.

    Returns:
        (N,) in units of the measurements.
    """
    n = len(measured)
    folds = max(2, min(folds, n))
    fold = np.random.default_rng(seed).permutation(n) % folds
    size = int(positions.max()) + 1 if len(positions) else 1
    scores = np.zeros(n)
    for held in range(folds):
        train = fold[owner] != held
        counts = np.bincount(positions[train], minlength=size)
        sums = np.bincount(positions[train], measured[owner[train]], size)
        overall = measured[fold != held].mean() if (fold != held).any() else 0.0
        with np.errstate(invalid="ignore"):
            effect = np.where(counts > 0, sums / np.maximum(counts, 1) - overall, 0.0)
        scores += np.bincount(owner[~train], effect[positions[~train]], n)
    return scores
