"""The scored residues of a masked pack, in the form the counting baselines need.

Shape letters: T tokens of one or several packs, M scored residues.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORED = -100
MASK = 32
FIRST, NUM_OUTCOMES, NUM_TOKENS = 4, 20, 33
"""ESM-2's alphabet: ids 4 to 23 of 33 are the standard residues, the only ones ever masked."""


class Scored(NamedTuple):
    """M scored residues.

    Attributes:
        left: (M,) token before, as seen in the masked input.
        seen: (M,) token at the position itself, as seen in the masked input.
        right: (M,) token after, as seen in the masked input.
        outcome: (M,) the true residue, 0 to 19.
    """

    left: NDArray[np.int64]
    seen: NDArray[np.int64]
    right: NDArray[np.int64]
    outcome: NDArray[np.int64]


def scored_residues(tokens: ArrayLike, labels: ArrayLike) -> Scored:
    """Gather the positions that carry a label, in order.

    Args:
        tokens: (T,) masked input, each protein between `<cls>` and `<eos>`, several behind one
            another.
        labels: (T,) true token where scored, else -100.

    Raises:
        ValueError: shapes differ, a label is none of the 20 standard residues, or a scored
            position has no neighbour on one side.
    """
    inputs, wanted = _pair(tokens, labels)
    return _at(inputs, wanted, np.flatnonzero(wanted != IGNORED))


def all_residues(tokens: ArrayLike, labels: ArrayLike) -> Scored:
    """Gather every standard residue, scored or not, among its masked neighbours.

    Whether a position is scored does not depend on its residue, so the unscored six in seven tell
    just as much about a residue and its neighbours.

    Args:
        tokens: (T,) as for `scored_residues`.
        labels: (T,) as for `scored_residues`.

    Raises:
        ValueError: as for `scored_residues`.
    """
    inputs, wanted = _pair(tokens, labels)
    true = np.where(wanted != IGNORED, wanted, inputs)
    standard = (true >= FIRST) & (true < FIRST + NUM_OUTCOMES)
    return _at(inputs, true, np.flatnonzero(standard | (wanted != IGNORED)))


def _pair(tokens: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    inputs, wanted = np.asarray(tokens, np.int64), np.asarray(labels, np.int64)
    if inputs.ndim != 1 or inputs.shape != wanted.shape:
        raise ValueError(
            f"tokens and labels must be (T,) alike, got {inputs.shape} and {wanted.shape}"
        )
    if inputs.size and (inputs.min() < 0 or inputs.max() >= NUM_TOKENS):
        raise ValueError(
            f"tokens must lie in 0 to {NUM_TOKENS - 1}, got {inputs.min()} to {inputs.max()}"
        )
    return inputs, wanted


def _at(inputs: NDArray[np.int64], true: NDArray[np.int64], at: NDArray[np.int64]) -> Scored:
    outcome = true[at] - FIRST
    bad = np.flatnonzero((outcome < 0) | (outcome >= NUM_OUTCOMES))
    if bad.size:
        where = int(at[bad[0]])
        raise ValueError(
            f"label {true[where]} at position {where} is none of the 20 standard residues "
            f"({FIRST} to {FIRST + NUM_OUTCOMES - 1}), the only ones that are scored"
        )
    if at.size and (at[0] == 0 or at[-1] == len(inputs) - 1):
        raise ValueError("a scored residue lies at the border of the pack, outside <cls> and <eos>")
    return Scored(inputs[at - 1], inputs[at], inputs[at + 1], outcome)
