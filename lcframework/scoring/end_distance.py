"""Loss by distance from the protein's ends, the N-terminus and the C-terminus apart.

A residue near an end sees context on one side only; in the middle of a long protein both sides are
far. The two ends differ: the first residue is nearly always methionine, the last is not. Far
distances exist only in long proteins, so a trend over distance is also one over length: read it
beside the length bins.

Shape letters: M scored residues, S proteins, K edges, 2 ends (N, C).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcframework.scoring.intervals import RESAMPLES
from lcframework.scoring.length_bins import MIN_PROTEINS, bin_bounds, checked_edges, ratio_columns

DISTANCE_EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Each bin is twice as wide as the one before: 0, 1, 2-3, 4-7, ... residues from the end."""
ENDS = ("N", "C")


def end_distances(
    positions: ArrayLike, lengths: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Residues between a residue and the nearest end, and which end that is.

    Args:
        positions: (M,) index of each residue in its protein, from 0.
        lengths: (M,) residues of that protein.

    Returns:
        (M,) int64 distances, 0 for the first and the last residue; (M,) int64 indices into `ENDS`,
        N for the middle residue of an odd number.

    Raises:
        ValueError: a position lies outside its protein.
    """
    at, sizes = np.asarray(positions, dtype=np.int64), np.asarray(lengths, dtype=np.int64)
    bad = np.flatnonzero((at < 0) | (at >= sizes))
    if bad.size:
        where = int(bad[0])
        raise ValueError(f"position {at[where]} lies outside a protein of {sizes[where]} residues")
    from_c = sizes - 1 - at
    return np.minimum(at, from_c), (from_c < at).astype(np.int64)


def sum_by_distance(
    nll: ArrayLike,
    distances: ArrayLike,
    ends: ArrayLike,
    protein_of: ArrayLike,
    n_proteins: int,
    edges: Sequence[int] = DISTANCE_EDGES,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and count losses by protein, end and distance bin.

    Args:
        nll: (M,) negative log-likelihood of each scored residue, nats.
        distances: (M,) its distance from the nearest end.
        ends: (M,) which end, index into `ENDS`.
        protein_of: (M,) index of its protein, 0 to `n_proteins` - 1.
        n_proteins: S.
        edges: K rising distances; a lower edge belongs to its bin.

    Returns:
        (S, 2, K + 1) float64 sums and (S, 2, K + 1) int64 counts.
    """
    shape = (n_proteins, len(ENDS), len(edges) + 1)
    bins = np.searchsorted(np.asarray(edges), np.asarray(distances), side="right")
    row = np.asarray(protein_of, dtype=np.int64) * len(ENDS) + np.asarray(ends, dtype=np.int64)
    cell, size = row * shape[2] + bins, int(np.prod(shape))
    counts = np.bincount(cell, minlength=size)
    sums = np.bincount(cell, np.asarray(nll, dtype=np.float64), minlength=size)
    return sums.astype(np.float64).reshape(shape), counts.astype(np.int64).reshape(shape)


def loss_by_distance(
    nll: ArrayLike,
    n: ArrayLike,
    edges: Sequence[int] = DISTANCE_EDGES,
    *,
    min_proteins: int = MIN_PROTEINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Loss in bins of distance from either end, with bootstrap intervals over proteins.

    Args:
        nll: (S, 2, K + 1) sums, as `sum_by_distance` returns them.
        n: (S, 2, K + 1) counts.
        edges: K rising distances.
        min_proteins: bins reached by fewer proteins get no loss.
        resamples: bootstrap resamples over proteins.
        seed: seed of the resamples.

    Returns:
        One row per end and bin: `end` ("N" or "C"), `distance` (a label such as "4-7"), `proteins`
        with a scored residue there, `residues_scored`, and `loss` with `_low` and `_high`, None in
        a bin with too few. A residue counts once, at the end it is nearest to.

    Raises:
        ConfigError: edges that `checked_edges` refuses.
        ValueError: the arrays are not (S, 2, K + 1).
    """
    edges = checked_edges(edges, "distance_edges")
    sums, counts = np.asarray(nll, dtype=np.float64), np.asarray(n)
    if sums.shape != counts.shape or sums.shape[1:] != (len(ENDS), len(edges) + 1):
        raise ValueError(
            f"nll and n must be (S, {len(ENDS)}, {len(edges) + 1}) for {len(edges)} edges, got "
            f"{sums.shape} and {counts.shape}"
        )
    options: dict[str, Any] = {"min_proteins": min_proteins, "resamples": resamples, "seed": seed}
    rows = []
    for side, end in enumerate(ENDS):
        for index, (label, _, _) in enumerate(bin_bounds(edges)):
            here, scored = sums[:, side, index], counts[:, side, index]
            rows.append(
                {
                    "end": end,
                    "distance": label,
                    "proteins": int((scored > 0).sum()),
                    "residues_scored": int(scored.sum()),
                    **ratio_columns("loss", here, scored, **options),
                }
            )
    return rows
