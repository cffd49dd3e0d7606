"""BERT masking and random crops of packed proteins, vectorised in numpy.

Source: Devlin et al. 2019 (section 3.1) for 15% / 80-10-10, as used by ESM-2 and LC-PLM.
Shape letters: T tokens of the pack, S proteins, P positions chosen for scoring.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcframework.data.alphabet import MASK_ID, SPECIALS_PER_PROTEIN, STANDARD_IDS
from lcframework.data.batch import IGNORE_LABEL
from lcframework.data.counter_random import Stream, draw, stream_key

_FIRST_STANDARD = np.uint8(STANDARD_IDS[0])
_NUM_STANDARD = len(STANDARD_IDS)
_TWO_32 = 1 << 32


@dataclass(frozen=True)
class MaskingRule:
    """How residues are chosen and replaced.

    Only the 20 standard residues are eligible. `X` says "not known", so there is nothing to
    predict; `B` and `Z` name two residues at once, and `U` and `O` occur about once in a million
    residues, so scoring them would measure annotation habits. They stay visible as context.

    Attributes:
        probability: share of eligible positions that are scored.
        mask_share: share of the scored positions shown as `<mask>`.
        random_share: share shown as a random standard residue (which may be the true one, as in
            the original); the rest is shown unchanged.
    """

    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.probability <= 1.0:
            raise ValueError(f"mask_probability must lie in (0, 1], got {self.probability}")
        shares = (self.mask_share, self.random_share)
        if min(shares) < 0.0 or sum(shares) > 1.0 + 1e-9:
            raise ValueError(
                "mask_share and random_share must be non-negative and add up to at most 1, got "
                f"{self.mask_share} and {self.random_share}"
            )


def crop_starts(
    lengths: NDArray[np.int64],
    sequence_ids: NDArray[np.int64],
    max_length: int,
    seed: int,
    epoch: int,
) -> NDArray[np.int64]:
    """First residue of each protein's window, uniform over the windows that fit.

    Args:
        lengths: (S,) int64 residues of each whole protein.
        sequence_ids: (S,) int64 index of each protein in its store.
        max_length: longest allowed protein in tokens, `<cls>` and `<eos>` included.
        seed: seed of the run.
        epoch: epoch number; every epoch draws another window.

    Returns:
        (S,) int64; 0 where the protein fits whole.
    """
    choices = np.maximum(lengths - (max_length - SPECIALS_PER_PROTEIN), 0) + 1
    bits = draw(stream_key(seed, epoch, Stream.CROP), sequence_ids)
    return (bits % choices.astype(np.uint64)).astype(np.int64)


def choose_positions(
    bits_T: NDArray[np.uint64],
    eligible_T: NDArray[np.bool_],
    starts_S: NDArray[np.int64],
    probability: float,
) -> NDArray[np.int64]:
    """Positions to score: each eligible one with `probability`, at least one per protein.

    Where a protein draws none, its eligible position with the smallest random number is taken, so
    that short proteins count; a protein without eligible residues gets none.

    Args:
        bits_T: (T,) uint64 random numbers.
        eligible_T: (T,) bool.
        starts_S: (S,) int64 first token of each protein.
        probability: chance of each eligible position.

    Returns:
        (P,) int64, ascending.
    """
    below = eligible_T.copy()
    if probability < 1.0:
        below &= bits_T < np.uint64(int(probability * 2**64))
    chosen_P = np.flatnonzero(below)
    bounds = np.searchsorted(chosen_P, np.append(starts_S, len(bits_T)))
    empty = np.flatnonzero(bounds[1:] == bounds[:-1])
    if not empty.size:
        return chosen_P
    ends = np.append(starts_S[1:], len(bits_T))
    extra = []
    for protein in empty:
        inside = np.arange(starts_S[protein], ends[protein])
        inside = inside[eligible_T[inside]]
        if inside.size:
            extra.append(inside[np.argmin(bits_T[inside])])
    return np.sort(np.concatenate([chosen_P, np.array(extra, dtype=np.int64)]))


def mask_pack(
    tokens_T: NDArray[np.uint8],
    starts_S: NDArray[np.int64],
    positions_T: NDArray[np.int64],
    sequence_ids: NDArray[np.int64],
    rule: MaskingRule,
    key: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask one pack.

    Args:
        tokens_T: (T,) uint8, proteins with `<cls>` and `<eos>`.
        starts_S: (S,) int64 first token of each protein.
        positions_T: (T,) int64, the index of each residue in its whole protein; anything
            non-negative at the special tokens. A residue keeps its random numbers in every crop.
        sequence_ids: (S,) int64 index of each protein in its store.
        rule: probabilities.
        key: `stream_key` of the split, seed and epoch.

    Returns:
        The masked tokens and the labels, both (T,) int64; labels are -100 where not scored.
    """
    lengths_S = np.diff(np.append(starts_S, len(tokens_T)))
    protein_keys_T = np.repeat(draw(key, sequence_ids), lengths_S)
    bits_T = draw(protein_keys_T, positions_T)
    # The subtraction wraps below the first standard id, so one comparison tests both ends.
    eligible_T = (tokens_T - _FIRST_STANDARD) < _NUM_STANDARD
    chosen_P = choose_positions(bits_T, eligible_T, starts_S, rule.probability)

    masked_T = tokens_T.astype(np.int64)
    labels_T = np.full(len(tokens_T), IGNORE_LABEL, dtype=np.int64)
    labels_T[chosen_P] = masked_T[chosen_P]

    # A second draw, as the first is conditioned on being small.
    action_P = draw(bits_T[chosen_P], np.zeros(len(chosen_P), dtype=np.uint64))
    fate_P = action_P >> np.uint64(32)
    residue_P = ((action_P & np.uint64(_TWO_32 - 1)) * np.uint64(_NUM_STANDARD)) >> np.uint64(32)
    to_mask = fate_P < np.uint64(round(rule.mask_share * _TWO_32))
    changed = fate_P < np.uint64(round((rule.mask_share + rule.random_share) * _TWO_32))
    shown_P = np.where(
        changed, residue_P.astype(np.int64) + int(_FIRST_STANDARD), masked_T[chosen_P]
    )
    shown_P[to_mask] = MASK_ID
    masked_T[chosen_P] = shown_P
    return masked_T, labels_T
