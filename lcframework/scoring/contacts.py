"""Precision of the highest-scoring residue pairs: P@L, L/2, L/5 by sequence separation.

Legend: L residues.
"""

import numpy as np
from numpy.typing import ArrayLike

SEPARATIONS = (6, 12, 24)
DIVISORS = (1, 2, 5)


def precision_counts(
    scores: ArrayLike, contacts: ArrayLike, divisor: int = 1, separation: int = 6
) -> tuple[int, int]:
    """Right ones among the L // divisor highest-scoring pairs.

    Only pairs i, j with j - i >= separation whose contact is known take part; ties keep the order
    of the pairs. L counts all residues of the map, as TAPE and CASP do.

    Args:
        scores: (L, L), higher is likelier; only j > i is read.
        contacts: (L, L), 1 contact, 0 none, negative unknown.
        divisor: 1, 2 or 5 in use.
        separation: at least 1.

    Returns:
        (right, chosen); chosen is smaller than L // divisor where fewer pairs are known.

    Raises:
        ValueError: shapes differ or are not square, or a score of a pair in question is no number.
    """
    s, c = np.asarray(scores, dtype=np.float64), np.asarray(contacts)
    if s.shape != c.shape or s.ndim != 2 or s.shape[0] != s.shape[1]:
        raise ValueError(f"scores and contacts must be (L, L) alike, got {s.shape} and {c.shape}")
    if separation < 1 or divisor < 1:
        raise ValueError(f"separation and divisor are at least 1, got {separation}, {divisor}")
    rows, columns = np.triu_indices(len(s), separation)
    known = c[rows, columns] >= 0
    values, truth = s[rows, columns][known], c[rows, columns][known]
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    chosen = np.argsort(-values, kind="stable")[: len(s) // divisor]
    return int((truth[chosen] > 0).sum()), len(chosen)


def precision_table(scores: ArrayLike, contacts: ArrayLike) -> list[dict[str, float | int | None]]:
    """One row per separation: precision at L, L/2 and L/5, and how many contacts there are.

    Args:
        scores: (L, L).
        contacts: (L, L), see `precision_counts`.

    Returns:
        Rows of `separation`, `P@L`, `P@L/2`, `P@L/5` (None without a known pair), `contacts`,
        `pairs` and `random`, the share of contacts among the known pairs, which is the precision of
        guessing.
    """
    known = np.asarray(contacts)
    rows: list[dict[str, float | int | None]] = []
    for separation in SEPARATIONS:
        row: dict[str, float | int | None] = {"separation": separation}
        for divisor in DIVISORS:
            right, chosen = precision_counts(scores, known, divisor, separation)
            row["P@L" if divisor == 1 else f"P@L/{divisor}"] = right / chosen if chosen else None
        pairs = known[np.triu_indices(len(known), separation)]
        total, found = int((pairs >= 0).sum()), int((pairs > 0).sum())
        rows.append(
            {**row, "contacts": found, "pairs": total, "random": found / total if total else None}
        )
    return rows
