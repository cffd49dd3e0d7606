"""Loss, perplexity and accuracy by protein length: what a long context is worth.

Shape letters: S proteins, K edges.
"""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcframework.errors import ConfigError
from lcframework.scoring.intervals import RESAMPLES, bootstrap_ratio

MIN_PROTEINS = 20
"""Below this many proteins a bin shows no number: its interval could not be trusted."""
LENGTH_EDGES = (128, 256, 512, 1024, 2048, 4096, 8192)


def checked_edges(edges: Sequence[Any], what: str = "length_edges") -> tuple[int, ...]:
    """The borders of bins as plain integers.

    Args:
        edges: K borders.
        what: the setting's name, for the message.

    Raises:
        ConfigError: they are no whole numbers, not positive, repeated, not rising, or none.
    """
    example = f"Give rising whole numbers of residues, such as {what}=[128,512,2048]."
    plain = isinstance(edges, str) or not isinstance(edges, Sequence | np.ndarray)
    given = f"{what}={edges if plain else list(edges)}"
    if plain or not len(edges):
        raise ConfigError(f"{given}: expected a list with at least one border. {example}")
    for edge in edges:
        if isinstance(edge, bool) or not isinstance(edge, Integral):
            raise ConfigError(f"{given}: {edge!r} is no whole number. {example}")
        if edge < 1:
            raise ConfigError(f"{given}: {edge} is below 1, no protein is shorter. {example}")
    for before, after in pairwise(edges):
        if after == before:
            raise ConfigError(f"{given}: {after} stands there twice. {example}")
        if after < before:
            raise ConfigError(f"{given}: {after} comes after {before}, unsorted. {example}")
    return tuple(int(edge) for edge in edges)


def bin_bounds(edges: Sequence[int]) -> list[tuple[str, int, int | None]]:
    """Label, lowest and highest value of the K + 1 bins; the lower edge belongs to a bin.

    `(128, 256)` gives ("0-127", 0, 127), ("128-255", 128, 255), ("256+", 256, None); a bin of one
    value is named by it alone.
    """
    starts = [0, *(int(edge) for edge in edges)]
    ends = [*(int(edge) - 1 for edge in edges), None]
    labels = [
        f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
        for low, high in zip(starts, ends, strict=True)
    ]
    return list(zip(labels, starts, ends, strict=True))


def ratio_columns(
    name: str,
    numerator: NDArray[Any],
    denominator: NDArray[Any],
    *,
    min_proteins: int = MIN_PROTEINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, float | None]:
    """`name`, `name_low` and `name_high` of a ratio of sums over proteins (95% bootstrap).

    Args:
        name: the columns' name.
        numerator: (S,) sums per protein.
        denominator: (S,) counts per protein; those with 0 do not take part.
        min_proteins: with fewer proteins all three are None.
        resamples: bootstrap resamples.
        seed: seed of the resamples.
    """
    names = (name, f"{name}_low", f"{name}_high")
    if (denominator > 0).sum() < max(min_proteins, 1):
        return dict.fromkeys(names)
    found = bootstrap_ratio(numerator, denominator, resamples=resamples, seed=seed)
    return dict(zip(names, (found.value, found.low, found.high), strict=True))


def scores_by_length(
    lengths: ArrayLike,
    nll: ArrayLike,
    n: ArrayLike,
    n_correct: ArrayLike,
    edges: Sequence[int] = LENGTH_EDGES,
    *,
    min_proteins: int = MIN_PROTEINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Loss, perplexity and accuracy in bins of protein length; every protein is in one bin.

    All three are ratios of sums over a bin's proteins, never means of proteins' or batches' means.

    Args:
        lengths: (S,) residues of each protein.
        nll: (S,) summed negative log-likelihood in nats over its scored residues.
        n: (S,) its scored residues; proteins with 0 are left out of the counts too.
        n_correct: (S,) of them predicted right.
        edges: K rising lengths.
        min_proteins: bins with fewer proteins get no numbers but their counts.
        resamples: bootstrap resamples over proteins.
        seed: seed of the resamples.

    Returns:
        One row per bin, empty ones too: `bin` (a label such as "128-255"), `proteins`,
        `residues_scored`, and `loss`, `perplexity` and `accuracy`, each with `_low` and `_high`
        (95%); None where the bin has too few proteins.

    Raises:
        ConfigError: edges that `checked_edges` refuses.
        ValueError: arrays of different shapes.
    """
    edges = checked_edges(edges)
    sizes, sums, counts, right = (np.asarray(x) for x in (lengths, nll, n, n_correct))
    if not sizes.shape == sums.shape == counts.shape == right.shape or sizes.ndim != 1:
        raise ValueError(
            "lengths, nll, n and n_correct must be (S,) alike, got "
            f"{sizes.shape}, {sums.shape}, {counts.shape}, {right.shape}"
        )
    bin_of = np.searchsorted(np.asarray(edges), sizes, side="right")
    options: dict[str, Any] = {"min_proteins": min_proteins, "resamples": resamples, "seed": seed}
    rows = []
    for index, (label, _, _) in enumerate(bin_bounds(edges)):
        inside = (bin_of == index) & (counts > 0)
        loss = ratio_columns("loss", sums[inside], counts[inside], **options)
        # exp is monotone, so it maps the interval of the loss onto that of the perplexity.
        perplexity = {
            key.replace("loss", "perplexity"): None if value is None else float(np.exp(value))
            for key, value in loss.items()
        }
        rows.append(
            {
                "bin": label,
                "proteins": int(inside.sum()),
                "residues_scored": int(counts[inside].sum()),
                **loss,
                **perplexity,
                **ratio_columns("accuracy", right[inside], counts[inside], **options),
            }
        )
    return rows
