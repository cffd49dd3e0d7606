"""A residue predicted from its two neighbours by interpolated counts.

Jelinek and Mercer 1980, "Interpolated estimation of Markov source parameters from sparse data":
relative frequencies given both neighbours, given one of them, and given none are mixed with weights
that are fitted by expectation maximisation on data the counts have not seen. The weights depend on
how often the pair of neighbours was seen, so that rare pairs lean on the simpler counts. A
neighbour is whatever the masked input shows: a residue, `<mask>`, `<cls>`, `<eos>`, `X`, ...

Shape letters: V=33 tokens a neighbour can be, A=20 residues to predict, B buckets, K=4 estimates,
C distinct (left, right, residue) triples of the held-out data.
"""

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcframework.errors import DataError
from lcframework.scoring.residues import NUM_OUTCOMES, NUM_TOKENS, all_residues, scored_residues
from lcframework.scoring.seen_residue import negative_log_likelihood

ESTIMATES = ("both", "left", "right", "none")
BUCKETS = 32
_PRIOR = 1.0
_MAX_ROUNDS = 500
_TOLERANCE = 1e-7
_SHAPE = (NUM_TOKENS, NUM_TOKENS, NUM_OUTCOMES)
_FORMAT = 1


class NeighbourCounts:
    """Counts of residues by their neighbours; `update` with training packs, then `finalize`.

    Attributes:
        counts: (V, V, A) int64, how often a residue stood between a left and a right neighbour.
        weights: (B, K) mixture weights by bucket of the pair's count (see `ESTIMATES`), None
            before `finalize`. Bucket b holds pairs seen 2^b - 1 to 2^(b+1) - 2 times.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_SHAPE, dtype=np.int64)
        self.weights: NDArray[np.float64] | None = None
        self._log_p: NDArray[np.float64] | None = None

    def update(self, tokens: ArrayLike, labels: ArrayLike) -> None:
        """Count one training pack: every standard residue, masked or not, by its masked neighbours.

        Args:
            tokens: (T,) masked input.
            labels: (T,) true token where scored, else -100.

        Raises:
            ValueError: see `lcframework.scoring.residues.all_residues`.
        """
        self.counts += _count_triples(tokens, labels)
        self.weights = self._log_p = None

    def finalize(self, held_out: Iterable[tuple[ArrayLike, ArrayLike]]) -> None:
        """Fit the mixture weights.

        Args:
            held_out: (tokens, labels) packs that were neither counted nor are scored later. On
                the counted packs the fit would trust the rarest counts most.

        Raises:
            ValueError: nothing counted or nothing held out.
        """
        held = np.zeros(_SHAPE, dtype=np.int64)
        for tokens, labels in held_out:
            held += _count_triples(tokens, labels)
        if not self.counts.any() or not held.any():
            raise ValueError("NeighbourCounts needs residues in update() and others in finalize()")
        bucket_of = _buckets(self.counts)
        estimates = _estimates(self.counts)
        triples = held.nonzero()
        p_CK = np.stack([estimate[triples] for estimate in estimates], axis=1)
        self.weights = _fit(p_CK, held[triples], bucket_of[triples[:2]])
        self._log_p = _mixture(estimates, self.weights, bucket_of)

    def nll(
        self, tokens: ArrayLike, labels: ArrayLike, *, true_share: float | None = None
    ) -> NDArray[np.float64]:
        """Negative log-likelihood of the scored residues.

        Args:
            tokens: (T,) masked input.
            labels: (T,) true token where scored, else -100.
            true_share: None to use the two neighbours alone; else also what stands at the scored
                position, see `lcframework.scoring.seen_residue.reveal_seen`.

        Returns:
            (M,) nats, in order of position.

        Raises:
            ValueError: before `finalize`.
        """
        if self._log_p is None:
            raise ValueError("call finalize(held_out) after the last update() and before nll()")
        scored = scored_residues(tokens, labels)
        return negative_log_likelihood(self._log_p[scored.left, scored.right], scored, true_share)

    def probabilities(self) -> NDArray[np.float64]:
        """The fitted (V, V, A) table: P(residue | left, right); every row sums to 1.

        Raises:
            ValueError: before `finalize`.
        """
        if self._log_p is None:
            raise ValueError("call finalize(held_out) after the last update()")
        return np.exp(self._log_p)

    def save(self, path: str | Path) -> None:
        """Write counts and weights as `.npz`, whole or not at all.

        Raises:
            ValueError: before `finalize`.
        """
        if self.weights is None:
            raise ValueError("call finalize(held_out) before save()")
        target = Path(path)
        temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
        try:
            with temporary.open("wb") as stream:
                np.savez_compressed(
                    stream, format=np.int64(_FORMAT), counts=self.counts, weights=self.weights
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "NeighbourCounts":
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or no such table.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                version, counts, weights = (arrays[k] for k in ("format", "counts", "weights"))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} is no readable table of neighbour counts ({error}); delete it and let it "
                "be counted anew from the training data"
            ) from error
        fits = counts.shape == _SHAPE and counts.dtype == np.int64 and counts.min() >= 0
        fits = fits and weights.shape == (BUCKETS, len(ESTIMATES))
        if not fits or int(version) != _FORMAT or not np.allclose(weights.sum(axis=1), 1.0):
            raise DataError(
                f"{path} holds counts {counts.shape} and weights {weights.shape} of format "
                f"{int(version)}, not {_SHAPE} of format {_FORMAT}; delete it and count anew"
            )
        table = cls()
        table.counts, table.weights = counts, weights
        table._log_p = _mixture(_estimates(counts), weights, _buckets(counts))
        return table


def _count_triples(tokens: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    found = all_residues(tokens, labels)
    cells = (found.left * NUM_TOKENS + found.right) * NUM_OUTCOMES + found.outcome
    return np.bincount(cells, minlength=int(np.prod(_SHAPE))).reshape(_SHAPE)


def _buckets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    seen_VV = counts.sum(axis=2)
    return np.minimum(np.log2(seen_VV + 1.0).astype(np.int64), BUCKETS - 1)


def _estimates(counts: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """The K estimates, each (V, V, A); where a context was never seen it gives the unigram's."""
    none_A = (counts.sum(axis=(0, 1)) + 1.0) / (counts.sum() + NUM_OUTCOMES)

    def relative(part: NDArray[np.int64]) -> NDArray[np.float64]:
        total = part.sum(axis=-1, keepdims=True)
        return np.where(total > 0, part / np.maximum(total, 1), none_A)

    left_VA, right_VA = relative(counts.sum(axis=1)), relative(counts.sum(axis=0))
    wide = [relative(counts), left_VA[:, None], right_VA[None, :], none_A[None, None]]
    return [np.broadcast_to(one, _SHAPE) for one in wide]


def _fit(
    p_CK: NDArray[np.float64], times_C: NDArray[np.int64], bucket_C: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Expectation maximisation of the (B, K) weights, with one pseudo-residue per weight.

    The pseudo-residues keep every weight positive, hence every probability too, and give buckets
    without held-out residues equal weights.
    """
    weights = np.full((BUCKETS, len(ESTIMATES)), 1.0 / len(ESTIMATES))
    for _ in range(_MAX_ROUNDS):
        joint_CK = weights[bucket_C] * p_CK
        share_CK = joint_CK * (times_C / joint_CK.sum(axis=1))[:, None]
        new = np.full_like(weights, _PRIOR)
        np.add.at(new, bucket_C, share_CK)
        new /= new.sum(axis=1, keepdims=True)
        moved = np.abs(new - weights).max()
        weights = new
        if moved < _TOLERANCE:
            break
    return weights


def _mixture(
    estimates: list[NDArray[np.float64]],
    weights: NDArray[np.float64],
    bucket_VV: NDArray[np.int64],
) -> NDArray[np.float64]:
    weight_VVK = weights[bucket_VV]
    parts = (weight_VVK[..., k, None] * estimate for k, estimate in enumerate(estimates))
    return np.log(sum(parts, start=np.zeros(_SHAPE)))
