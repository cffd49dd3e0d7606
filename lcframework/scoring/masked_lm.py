"""Perplexity and accuracy of masked residues, per protein first, then over the corpus.

Perplexity is exp of the mean negative log-likelihood (natural log) over all scored residues: the
pseudo-perplexity of masked protein language models (Lin et al. 2023, supplement A.1.4) on a random
15% instead of every position in turn. It is computed once from all proteins' sums: a mean of
batches' values would depend on the batching.

Shape letters: S proteins, M scored residues, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcframework.scoring.intervals import RESAMPLES, Interval, bootstrap_ratio


class ProteinScores(NamedTuple):
    """What a model did on each protein, as `MaskedLMMetric.compute` returns it.

    Attributes:
        sequence_ids: (S,) int64, ascending, no id twice.
        lengths: (S,) int64 residues of the protein.
        nll_sum: (S,) float64 summed negative log-likelihood of its scored residues, nats.
        n_scored: (S,) int64.
        n_correct: (S,) int64 scored residues whose most likely token was the true one.
        confusion: (V, V) int64, true token by most likely token, over all proteins.
    """

    sequence_ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    nll_sum: NDArray[np.float64]
    n_scored: NDArray[np.int64]
    n_correct: NDArray[np.int64]
    confusion: NDArray[np.int64]


@dataclass(frozen=True)
class MaskedLMScore:
    """Corpus scores.

    Attributes:
        loss: mean negative log-likelihood per scored residue, nats.
        perplexity: exp(loss) with its interval.
        accuracy: share of scored residues predicted right, with its interval.
        residues: residues of all proteins that have a scored one.
        residues_scored: how many of them were scored.
    """

    loss: float
    perplexity: Interval
    accuracy: Interval
    residues: int
    residues_scored: int


def score_masked_lm(
    nll_sum: ArrayLike,
    n_scored: ArrayLike,
    n_correct: ArrayLike,
    lengths: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MaskedLMScore:
    """Corpus loss, perplexity and accuracy from per-protein sums.

    Args:
        nll_sum: (S,) summed negative log-likelihood, nats.
        n_scored: (S,) scored residues.
        n_correct: (S,) of them predicted right.
        lengths: (S,) residues of each protein.
        resamples: bootstrap resamples over proteins.
        seed: seed of the resamples.

    Returns:
        The scores; proteins without a scored residue do not count anywhere.

    Raises:
        ValueError: unequal shapes, more right than scored, more scored than residues, or nothing
            scored.
    """
    scored, correct, sizes = (np.asarray(x) for x in (n_scored, n_correct, lengths))
    if not scored.shape == correct.shape == sizes.shape:
        raise ValueError(
            "n_scored, n_correct and lengths must be (S,) alike, got "
            f"{scored.shape}, {correct.shape} and {sizes.shape}"
        )
    bad = np.flatnonzero((correct > scored) | (scored > sizes))
    if bad.size:
        where = int(bad[0])
        raise ValueError(
            f"protein {where} has {correct[where]} right of {scored[where]} scored of "
            f"{sizes[where]} residues; each must be at most the next"
        )
    perplexity = bootstrap_ratio(nll_sum, scored, np.exp, resamples=resamples, seed=seed)
    accuracy = bootstrap_ratio(correct, scored, resamples=resamples, seed=seed)
    total = int(scored.sum())
    return MaskedLMScore(
        loss=float(np.asarray(nll_sum, dtype=np.float64).sum() / total),
        perplexity=perplexity,
        accuracy=accuracy,
        residues=int(sizes[scored > 0].sum()),
        residues_scored=total,
    )


def accuracy_per_token(confusion: ArrayLike, names: Sequence[str]) -> list[dict[str, Any]]:
    """Accuracy of each amino acid and what it is most often taken for.

    Args:
        confusion: (V, V) counts, true token by predicted token.
        names: V token names.

    Returns:
        One row per token that was scored at least once, in vocabulary order: `token`, `n`,
        `accuracy`, `most_confused_with` (None if never wrong; of equals the first in the
        vocabulary) and `confused_share`, the share of `n` that went there.

    Raises:
        ValueError: the matrix is not (V, V) for V names.
    """
    counts = np.asarray(confusion)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"confusion must be ({len(names)}, {len(names)}), got {counts.shape}")
    rows = []
    for token in np.flatnonzero(counts.sum(axis=1)).tolist():
        n, right = int(counts[token].sum()), int(counts[token, token])
        wrong = counts[token].copy()
        wrong[token] = 0
        other = int(wrong.argmax())
        rows.append(
            {
                "token": names[token],
                "n": n,
                "accuracy": right / n,
                "most_confused_with": names[other] if wrong[other] else None,
                "confused_share": int(wrong[other]) / n,
            }
        )
    return rows


def sum_by_protein(
    values: ArrayLike, protein_of: ArrayLike, n_proteins: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and count per-residue values by protein.

    Args:
        values: (M,) for example negative log-likelihoods.
        protein_of: (M,) index of each value's protein, 0 to `n_proteins` - 1.
        n_proteins: S.

    Returns:
        (S,) float64 sums and (S,) int64 counts.
    """
    owners = np.asarray(protein_of, dtype=np.int64)
    sums = np.zeros(n_proteins)
    np.add.at(sums, owners, np.asarray(values, dtype=np.float64))
    return sums, np.bincount(owners, minlength=n_proteins)
