"""What no network is needed for: baselines scored on exactly the masked residues of the model.

* uniform over the 20 standard residues: perplexity 20;
* unigram: the residues' frequencies in training, add-one;
* neighbours: interpolated counts given the left and right neighbour (`neighbour_counts`);
* either of the last two told what stands at the position itself (`reveal_seen`).

The last kind matters because BERT masking shows a residue at 20% of the scored positions, the true
one at half of them and a random one at the other half. A network soon learns that rule, and the
rule alone lowers a unigram perplexity of 18 to about 15: beating a baseline that is not told what
stands there does not prove yet that a network reads the context.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcframework.scoring.neighbour_counts import NeighbourCounts
from lcframework.scoring.residues import NUM_OUTCOMES, all_residues, scored_residues
from lcframework.scoring.seen_residue import negative_log_likelihood, reveal_seen

__all__ = [
    "NeighbourCounts",
    "count_residues",
    "reveal_seen",
    "uniform_nll",
    "unigram_log_probabilities",
    "unigram_nll",
]


def uniform_nll(tokens: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """log 20 at every scored residue.

    Args:
        tokens: (T,) masked input.
        labels: (T,) true token where scored, else -100.

    Returns:
        (M,) nats, in order of position.
    """
    return np.full(len(scored_residues(tokens, labels).outcome), np.log(NUM_OUTCOMES))


def count_residues(tokens: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Count the 20 standard residues of a training pack, the masked ones by their labels.

    Args:
        tokens: (T,) masked input.
        labels: (T,) true token where scored, else -100.

    Returns:
        (20,) int64; add up the packs.
    """
    return np.bincount(all_residues(tokens, labels).outcome, minlength=NUM_OUTCOMES)


def unigram_log_probabilities(counts: ArrayLike) -> NDArray[np.float64]:
    """Add-one estimate of the residues' frequencies.

    Args:
        counts: (20,) training counts.

    Returns:
        (20,) natural logarithms.
    """
    smoothed = np.asarray(counts, np.float64) + 1.0
    return np.log(smoothed / smoothed.sum())


def unigram_nll(
    counts: ArrayLike, tokens: ArrayLike, labels: ArrayLike, *, true_share: float | None = None
) -> NDArray[np.float64]:
    """Negative log-likelihood under the training frequencies.

    Args:
        counts: (20,) training counts.
        tokens: (T,) masked input.
        labels: (T,) true token where scored, else -100.
        true_share: None to ignore what stands at the scored position; else see `reveal_seen`.

    Returns:
        (M,) nats, in order of position.
    """
    scored = scored_residues(tokens, labels)
    log_p = np.broadcast_to(unigram_log_probabilities(counts), (len(scored.outcome), NUM_OUTCOMES))
    return negative_log_likelihood(log_p, scored, true_share)
