"""Loss by distance from the nearest end of the protein.

A residue near an end sees context on one side only; in the middle of a long protein both sides are
far. Far distances exist only in long proteins, so a trend over distance is also one over length:
read it beside the length bins.

Shape letters: M scored residues, S proteins, K edges.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcframework.scoring.intervals import RESAMPLES
from lcframework.scoring.length_bins import MIN_PROTEINS, bin_bounds, checked_edges, ratio_columns

DISTANCE_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Each bin is twice as wide as the one before: 0, 1, 2-3, 4-7, ... residues from the end."""


def end_distances(positions: ArrayLike, lengths: ArrayLike) -> NDArray[np.int64]:
    """Residues between a residue and the nearest end; 0 for the first and the last.

    Args:
        positions: (M,) index of each residue in its protein, from 0.
        lengths: (M,) residues of that protein.

    Returns:
        (M,) int64.

    Raises:
        ValueError: a position lies outside its protein.
    """
    at, sizes = np.asarray(positions, dtype=np.int64), np.asarray(lengths, dtype=np.int64)
    bad = np.flatnonzero((at < 0) | (at >= sizes))
    if bad.size:
        where = int(bad[0])
        raise ValueError(f"position {at[where]} lies outside a protein of {sizes[where]} residues")
    return np.minimum(at, sizes - 1 - at)


def sum_by_distance(
    nll: ArrayLike,
    distances: ArrayLike,
    protein_of: ArrayLike,
    n_proteins: int,
    edges: Sequence[int] = DISTANCE_EDGES,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and count losses by protein and distance bin.

    Args:
        nll: (M,) negative log-likelihood of each scored residue, nats.
        distances: (M,) its distance from the nearest end.
        protein_of: (M,) index of its protein, 0 to `n_proteins` - 1.
        n_proteins: S.
        edges: K rising distances; a lower edge belongs to its bin.

    Returns:
        (S, K + 1) float64 sums and (S, K + 1) int64 counts.
    """
    bins = len(edges) + 1
    cell = np.asarray(protein_of, dtype=np.int64) * bins
    cell = cell + np.searchsorted(np.asarray(edges), np.asarray(distances), side="right")
    counts = np.bincount(cell, minlength=n_proteins * bins)
    weights = np.asarray(nll, dtype=np.float64)
    sums = np.bincount(cell, weights, minlength=n_proteins * bins).astype(np.float64)
    return sums.reshape(n_proteins, bins), counts.reshape(n_proteins, bins).astype(np.int64)


def loss_by_distance(
    nll: ArrayLike,
    n: ArrayLike,
    edges: Sequence[int] = DISTANCE_EDGES,
    *,
    min_proteins: int = MIN_PROTEINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Loss in bins of distance from the nearest end, with bootstrap intervals over proteins.

    Args:
        nll: (S, K + 1) sums, as `sum_by_distance` returns them.
        n: (S, K + 1) counts.
        edges: K rising distances.
        min_proteins: bins reached by fewer proteins get no loss.
        resamples: bootstrap resamples over proteins.
        seed: seed of the resamples.

    Returns:
        One row per bin: `distance` (a label such as "4-7"), `proteins` with a scored residue
        there, `residues_scored`, and `loss` with `_low` and `_high`, None in a bin with too few.

    Raises:
        ConfigError: edges that `checked_edges` refuses.
        ValueError: the arrays are not (S, K + 1).
    """
    edges = checked_edges(edges, "distance_edges")
    sums, counts = np.asarray(nll, dtype=np.float64), np.asarray(n)
    if sums.shape != counts.shape or sums.ndim != 2 or sums.shape[1] != len(edges) + 1:
        raise ValueError(
            f"nll and n must be (S, {len(edges) + 1}) for {len(edges)} edges, got "
            f"{sums.shape} and {counts.shape}"
        )
    rows = []
    for index, (label, _, _) in enumerate(bin_bounds(edges)):
        here, scored = sums[:, index], counts[:, index]
        rows.append(
            {
                "distance": label,
                "proteins": int((scored > 0).sum()),
                "residues_scored": int(scored.sum()),
                **ratio_columns(
                    "loss",
                    here,
                    scored,
                    min_proteins=min_proteins,
                    resamples=resamples,
                    seed=seed,
                ),
            }
        )
    return rows
