"""What a scored position itself shows: BERT masking leaves or puts a residue at one in five.

Shape letters: M scored residues.
"""

import numpy as np
from numpy.typing import NDArray

from lcframework.scoring.residues import FIRST, MASK, NUM_OUTCOMES, Scored


def reveal_seen(
    log_probabilities: NDArray[np.float64], seen: NDArray[np.int64], true_share: float
) -> NDArray[np.float64]:
    """Update predictions by the residue that BERT masking left or put at the position (Bayes).

    At a scored position that is not `<mask>`, the input is the true residue with probability
    `true_share` and one of the 20 at random otherwise (Devlin et al. 2019, section 3.1: 10% and
    10%, so 0.5). `<mask>` tells nothing.

    Args:
        log_probabilities: (M, 20) of the true residue before looking.
        seen: (M,) token at each position in the masked input.
        true_share: above 0 and below 1.

    Returns:
        (M, 20) log-probabilities after looking.

    Raises:
        ValueError: `true_share` outside (0, 1), or a seen token that masking never puts there.
    """
    if not 0.0 < true_share < 1.0:
        raise ValueError(f"true_share must lie between 0 and 1, got {true_share}")
    updated = np.array(log_probabilities)
    visible = np.flatnonzero(seen != MASK)
    shown = seen[visible] - FIRST
    if visible.size and (shown.min() < 0 or shown.max() >= NUM_OUTCOMES):
        raise ValueError("a scored position shows neither <mask> nor a standard residue")
    likelihood = np.full((len(visible), NUM_OUTCOMES), (1.0 - true_share) / NUM_OUTCOMES)
    likelihood[np.arange(len(visible)), shown] += true_share
    joint = updated[visible] + np.log(likelihood)
    updated[visible] = joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)
    return updated


def negative_log_likelihood(
    log_probabilities: NDArray[np.float64], scored: Scored, true_share: float | None
) -> NDArray[np.float64]:
    """Score predictions, first updated by the residue seen at the position if asked for.

    Args:
        log_probabilities: (M, 20) of the true residue.
        scored: the M residues.
        true_share: None to ignore what stands at the position; else see `reveal_seen`.

    Returns:
        (M,) nats.
    """
    if true_share is not None:
        log_probabilities = reveal_seen(log_probabilities, scored.seen, true_share)
    return -log_probabilities[np.arange(len(scored.outcome)), scored.outcome]
