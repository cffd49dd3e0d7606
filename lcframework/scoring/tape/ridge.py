"""A linear probe in closed form: ridge regression on features, one-hot targets for classes.

It has no seed, no learning rate and no stopping rule, so that two sets of features are compared and
nothing else. Features are scaled to mean 0 and variance 1; the penalty is chosen on valid.

Legend: n rows, p features, c outputs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Times n, on features of variance 1."""
Rows = Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]]
Array = NDArray[np.float64]


BLOCK = 1024
"""Rows multiplied at a time: the matrix of products is as large as the features squared."""


def _in_blocks(rows: Rows) -> Iterator[tuple[Array, Array]]:
    """The pieces joined to blocks of at least `BLOCK` rows, in float64."""
    kept: list[tuple[NDArray[np.floating], NDArray[np.floating]]] = []
    count = 0
    for piece in rows:
        kept.append(piece)
        count += len(piece[0])
        if count >= BLOCK:
            yield _joined(kept)
            kept, count = [], 0
    if count:
        yield _joined(kept)


def _joined(pieces: list[tuple[NDArray[np.floating], NDArray[np.floating]]]) -> tuple[Array, Array]:
    features, targets = zip(*pieces, strict=True)
    return np.concatenate(features).astype(np.float64), np.concatenate(targets).astype(np.float64)


@dataclass(frozen=True)
class LinearMap:
    """A fitted probe: (p,) mean of the features, (p, c) weights, (c,) level."""

    mean: Array
    weights: Array
    level: Array

    def predict(self, features: NDArray[np.floating]) -> Array:
        """(m, c) for features (m, p)."""
        return (features.astype(np.float64) - self.mean) @ self.weights + self.level


class RidgeProbe:
    """Sums over the training rows, from which the weights of any penalty follow.

    Args:
        rows: (features (m, p), targets (m, c)) pieces; at least one row in all.

    Raises:
        ValueError: there are no rows.
    """

    def __init__(self, rows: Rows) -> None:
        self.n = 0
        gram, cross, sums, totals = (np.zeros(0) for _ in range(4))
        for x, y in _in_blocks(rows):
            if not self.n:
                p, c = x.shape[1], y.shape[1]
                gram, cross, sums, totals = (
                    np.zeros((p, p)),
                    np.zeros((p, c)),
                    np.zeros(p),
                    np.zeros(c),
                )
            gram += x.T @ x
            cross += x.T @ y
            sums += x.sum(0)
            totals += y.sum(0)
            self.n += len(x)
        if not self.n:
            raise ValueError("a probe needs training rows")
        self._mean, self._level = sums / self.n, totals / self.n
        centred = gram - self.n * np.outer(self._mean, self._mean)
        variance = np.diag(centred) / self.n
        alive = variance > 1e-10 * max(1e-10, float(variance.max()))
        self._scale = np.where(alive, 1.0 / np.sqrt(np.where(alive, variance, 1.0)), 0.0)
        self._gram = centred * np.outer(self._scale, self._scale)
        right = cross - self.n * np.outer(self._mean, self._level)
        self._right = right * self._scale[:, None]

    def solve(self, penalty: float) -> LinearMap:
        """The probe of a penalty, times n."""
        shrunk = self._gram + penalty * self.n * np.eye(len(self._gram))
        weights: Any = np.linalg.solve(shrunk, self._right) * self._scale[:, None]
        return LinearMap(self._mean, weights, self._level)
