"""From assays to ProteinGym's one number: mean per protein, then per selection type, then of those.

Each assay's value is rounded to three decimals first, as the official tables are. Assays of one
protein and one kind of selection count once, and each kind of selection counts the same however
many assays it has. The plain mean over assays is another number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DECIMALS = 3
RESAMPLES = 10_000


@dataclass(frozen=True)
class AssayKey:
    """What the aggregation needs to know of an assay: its protein and its kind of selection."""

    uniprot_id: str
    selection_type: str


@dataclass(frozen=True)
class Aggregate:
    """One model's score over the assays.

    Attributes:
        average: mean of the selection types' means, not rounded; NaN where no assay has a value.
        by_type: mean of each selection type over its proteins, in alphabetical order.
        standard_error: bootstrap standard error over proteins, of the average or, where another
            model's values were given, of the difference to it.
        assays: assays that have a value.
    """

    average: float
    by_type: dict[str, float]
    standard_error: float
    assays: int


def protein_means(values: Sequence[float], keys: Sequence[AssayKey]) -> dict[str, dict[str, float]]:
    """Mean of the rounded values per (selection type, protein).

    Args:
        values: (A,) one per assay; NaN where undefined, which is left out.
        keys: (A,) their proteins and kinds of selection.

    Returns:
        selection type -> UniProt id -> mean; types and ids sorted.
    """
    lists: dict[str, dict[str, list[float]]] = {}
    for value, key in zip(values, keys, strict=True):
        if np.isfinite(value):
            of_type = lists.setdefault(key.selection_type, {})
            of_type.setdefault(key.uniprot_id, []).append(float(np.round(value, DECIMALS)))
    return {
        kind: {protein: float(np.mean(lists[kind][protein])) for protein in sorted(lists[kind])}
        for kind in sorted(lists)
    }


def aggregate(
    values: Sequence[float],
    keys: Sequence[AssayKey],
    against: Sequence[float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Aggregate:
    """ProteinGym's average of one metric of one model.

    Args:
        values: (A,) the metric per assay, NaN where undefined.
        keys: (A,) proteins and kinds of selection.
        against: (A,) another model's values (officially the best model's): the standard error then
            is that of the difference, over the assays that both have.
        resamples: of the bootstrap, R.
        seed: of its draws; equal seeds give models the same draws.
    """
    means = protein_means(values, keys)
    by_type = {kind: float(np.mean(list(proteins.values()))) for kind, proteins in means.items()}
    spread = means
    if against is not None:
        other = protein_means(against, keys)
        spread = {
            kind: {
                protein: value - other[kind][protein]
                for protein, value in proteins.items()
                if protein in other.get(kind, {})
            }
            for kind, proteins in means.items()
        }
    error = bootstrap_standard_error(spread, resamples, seed)
    average = float(np.mean(list(by_type.values()))) if by_type else float("nan")
    return Aggregate(average, by_type, error, int(np.isfinite(np.asarray(values, float)).sum()))


def bootstrap_standard_error(
    means: Mapping[str, Mapping[str, float]], resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Standard deviation of the average when proteins are drawn anew within each selection type.

    Args:
        means: selection type -> protein -> value, as `protein_means` returns.
        resamples: R.
        seed: of the draws.

    Returns:
        The standard deviation over R resamples (ddof 1); NaN where there is nothing to resample or
        no selection type has two proteins, because the spread over proteins is then unknown.
    """
    generator = np.random.default_rng(seed)
    kept = [np.array(list(one.values())) for one in means.values() if one]
    if not kept or max(len(one) for one in kept) < 2:
        return float("nan")
    total: NDArray[np.float64] = np.zeros(resamples)
    for values in kept:
        drawn = generator.integers(0, len(values), (resamples, len(values)))
        total += values[drawn].mean(axis=1)
    return float((total / len(kept)).std(ddof=1))
