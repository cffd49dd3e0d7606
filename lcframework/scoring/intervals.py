"""A measured number with its confidence interval, by the bootstrap over proteins.

Residues of one protein are not independent, so whole proteins are drawn with replacement (cluster
bootstrap; Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13).

Shape letters: S proteins, R resamples.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1_000
LEVEL = 0.95
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A value and the interval that covers it.

    Attributes:
        value: the statistic on all proteins.
        low: lower end.
        high: upper end.
        n: proteins it rests on. With one protein the interval has no width and says nothing.
    """

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        """Plain values for JSON."""
        return asdict(self)


def bootstrap_ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    transform: Callable[[Any], Any] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Interval of `transform(sum(numerator) / sum(denominator))`, resampling proteins.

    Percentile bootstrap. The same seed and the same number of proteins give the same resamples, so
    two models scored on the same proteins in the same order are compared on the same draws.

    Args:
        numerator: (S,) sums per protein, for example of negative log-likelihoods.
        denominator: (S,) counts per protein; proteins with 0 carry no information and are dropped.
        transform: a monotone function such as `numpy.exp`; None for the ratio itself.
        resamples: R.
        level: coverage, between 0 and 1.
        seed: seed of the draws.

    Returns:
        The value on all proteins and its percentile interval.

    Raises:
        ValueError: shapes differ, a value is not finite, a count is negative, or none is positive.
    """
    top_S, bottom_S = _checked(numerator, denominator)
    apply = transform if transform is not None else _identity
    value = float(apply(top_S.sum() / bottom_S.sum()))
    draws_R = apply(_resampled_ratios(top_S, bottom_S, resamples, seed))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws_R, (tail, 1.0 - tail))
    return Interval(value, float(low), float(high), len(top_S))


def _checked(
    numerator: ArrayLike, denominator: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    top_S = np.asarray(numerator, dtype=np.float64)
    bottom_S = np.asarray(denominator, dtype=np.float64)
    if top_S.shape != bottom_S.shape or top_S.ndim != 1:
        raise ValueError(
            f"numerator and denominator must be (S,) alike, got {top_S.shape} and {bottom_S.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(top_S) | ~np.isfinite(bottom_S) | (bottom_S < 0))
    if bad.size:
        where = int(bad[0])
        raise ValueError(
            f"protein {where} of {len(top_S)} has sum {top_S[where]} over count {bottom_S[where]}; "
            "sums must be finite and counts non-negative"
        )
    kept = bottom_S > 0
    if not kept.any():
        raise ValueError(f"none of the {len(top_S)} proteins has a scored residue")
    return top_S[kept], bottom_S[kept]


def _resampled_ratios(
    top_S: NDArray[np.float64], bottom_S: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    n = len(top_S)
    rows = max(1, _DRAWS_AT_ONCE // n)  # bounds the memory at millions of proteins
    done = []
    for start in range(0, resamples, rows):
        chosen = generator.integers(0, n, (min(rows, resamples - start), n))
        done.append(top_S[chosen].sum(axis=1) / bottom_S[chosen].sum(axis=1))
    return np.concatenate(done)


def _identity(ratio: Any) -> Any:
    return ratio
