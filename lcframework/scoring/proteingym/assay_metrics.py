"""The five metrics of one assay, as ProteinGym's `performance_DMS_benchmarks.py` computes them.

Higher is better everywhere, both in measurements and in scores. Where the official code leaves ties
to an unstable sort, they are broken by the order of the rows here, so that a number is repeatable.

Legend: N variants of the assay.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

METRICS = ("spearman", "auc", "mcc", "ndcg", "top_recall")
TOP_PERCENT = 10


def assay_metrics(measured: ArrayLike, binary: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """All metrics of `METRICS`, not rounded.

    Args:
        measured: (N,) DMS scores.
        binary: (N,) 1 where the measurement counts as functional, else 0.
        scores: (N,) predictions.

    Raises:
        ValueError: shapes differ, there are fewer than two variants, or a value is not finite.
    """
    y, b, s = _checked(measured, binary, scores)
    return {
        "spearman": spearman(y, s),
        "auc": auc(b, s),
        "mcc": mcc(b, (s >= np.median(s)).astype(np.int64)),
        "ndcg": ndcg(y, s),
        "top_recall": top_recall(y, s),
    }


def _checked(
    measured: ArrayLike, binary: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    y, s = np.asarray(measured, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    b = np.asarray(binary, dtype=np.int64)
    if y.ndim != 1 or y.shape != s.shape or y.shape != b.shape or len(y) < 2:
        raise ValueError(
            "measured, binary and scores must be (N,) alike with N >= 2, got "
            f"{y.shape}, {b.shape} and {s.shape}"
        )
    if not (np.isfinite(y).all() and np.isfinite(s).all()):
        bad = int(np.flatnonzero(~(np.isfinite(y) & np.isfinite(s)))[0])
        raise ValueError(f"variant {bad} has measurement {y[bad]} and score {s[bad]}: not finite")
    return y, b, s


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]


def spearman(measured: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Pearson correlation of the ranks; NaN where one side is constant."""
    a, b = (one - one.mean() for one in (ranks(measured), ranks(scores)))
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 0 else float("nan")


def auc(binary: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the chance that a functional variant scores above another, ties
    counting half; NaN where there is one class."""
    positives = int(binary.sum())
    negatives = len(binary) - positives
    if not positives or not negatives:
        return float("nan")
    above = ranks(scores)[binary == 1].sum() - positives * (positives + 1) / 2.0
    return float(above / (positives * negatives))


def mcc(binary: NDArray[np.int64], called: NDArray[np.int64]) -> float:
    """Matthews correlation of two 0/1 vectors; 0 where one of them is constant.

    ProteinGym calls a variant functional if its score is at least the median of the assay's scores.
    """
    counts = np.bincount(2 * binary + called, minlength=4).astype(np.float64)
    tn, fp, fn, tp = counts
    norm = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return float((tp * tn - fp * fn) / norm) if norm > 0 else 0.0


def _places(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) 1-based places from the highest value down, ties in row order."""
    places = np.empty(len(values), dtype=np.int64)
    places[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return places


def ndcg(
    measured: NDArray[np.float64], scores: NDArray[np.float64], top_percent: int = TOP_PERCENT
) -> float:
    """Normalised discounted cumulative gain of the variants placed in the top percent.

    Gains are measurements scaled to 0..1, the variant at place r counts 1 / log2(r + 1), and the
    sum is divided by that of the best order. NaN where all measurements are equal; 0 where the top
    holds no variant or only gains of 0.
    """
    span = measured.max() - measured.min()
    if span <= 0:
        return float("nan")
    gains = (measured - measured.min()) / span
    k = int(np.floor(len(gains) * (top_percent / 100)))
    places = _places(scores)
    chosen = places <= k
    gained = (gains[chosen] / np.log2(places[chosen] + 1.0)).sum()
    best = (np.sort(gains)[::-1][:k] / np.log2(np.arange(2.0, k + 2.0))).sum()
    return float(gained / best) if best > 0 else 0.0


def top_recall(
    measured: NDArray[np.float64], scores: NDArray[np.float64], top_percent: int = TOP_PERCENT
) -> float:
    """Share of the variants measured above the 90th percentile that also score above theirs; NaN
    where none is measured above it."""
    wanted = measured > np.percentile(measured, 100 - top_percent)
    found = scores > np.percentile(scores, 100 - top_percent)
    return float((wanted & found).sum() / wanted.sum()) if wanted.any() else float("nan")
