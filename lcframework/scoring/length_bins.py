"""Perplexity by protein length: what a long context is worth."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lcframework.scoring.intervals import RESAMPLES, bootstrap_ratio

MIN_PROTEINS = 20
"""Below this many proteins a bin shows no perplexity: its interval could not be trusted."""


def perplexity_by_length(
    lengths: ArrayLike,
    nll: ArrayLike,
    n: ArrayLike,
    edges: Sequence[int],
    *,
    min_proteins: int = MIN_PROTEINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Perplexity with its interval in bins of protein length; every protein is in one bin.

    K edges make K + 1 bins: below the first edge, from each edge up to the next (the lower edge
    belongs to the bin), and from the last edge on.

    Args:
        lengths: (S,) residues of each protein.
        nll: (S,) summed negative log-likelihood in nats over its scored residues.
        n: (S,) its scored residues; proteins with 0 are left out of the counts too.
        edges: K rising lengths.
        min_proteins: bins with fewer proteins get no perplexity.
        resamples: bootstrap resamples.
        seed: seed of the resamples.

    Returns:
        One row per bin: `bin` (a label such as "128-255"), `low` and `high` (shortest and longest
        length, `high` None in the last), `proteins`, `residues_scored`, and `perplexity`, an
        interval as a dictionary or None.

    Raises:
        ValueError: edges that do not rise, or arrays of different shapes.
    """
    lengths, nll, n = np.asarray(lengths), np.asarray(nll, np.float64), np.asarray(n)
    if not len(edges) or edges[0] < 1 or any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"edges must be positive lengths that rise strictly, got {list(edges)}")
    if not lengths.shape == nll.shape == n.shape or lengths.ndim != 1:
        raise ValueError(
            f"lengths, nll and n must be (S,) alike, got {lengths.shape}, {nll.shape}, {n.shape}"
        )
    bin_of = np.searchsorted(np.asarray(edges), lengths, side="right")
    rows = []
    for index, (low, high) in enumerate(_bounds(edges)):
        inside = (bin_of == index) & (n > 0)
        perplexity = None
        if inside.sum() >= max(min_proteins, 1):
            perplexity = bootstrap_ratio(
                nll[inside], n[inside], np.exp, resamples=resamples, seed=seed
            ).as_dict()
        rows.append(
            {
                "bin": f"{low}+" if high is None else f"{low}-{high}",
                "low": low,
                "high": high,
                "proteins": int(inside.sum()),
                "residues_scored": int(n[inside].sum()),
                "perplexity": perplexity,
            }
        )
    return rows


def _bounds(edges: Sequence[int]) -> list[tuple[int, int | None]]:
    starts = [0, *(int(edge) for edge in edges)]
    ends = [int(edge) - 1 for edge in edges]
    return list(zip(starts, [*ends, None], strict=True))
