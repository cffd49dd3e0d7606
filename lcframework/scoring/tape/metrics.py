"""The score of a task over all proteins of a split, with an interval over proteins.

Everything is a pair of numbers per protein, so that ranks exchange little and the corpus score is
computed once: (right, scored) for classes and contacts, (predicted, true) for values.

* classes per residue: accuracy over residues, not over proteins, as TAPE averages;
* one class per protein: top-1 accuracy;
* values: Spearman's rank correlation;
* contacts: precision of the L/5 best pairs at least 6 apart, right ones of all proteins over chosen
  ones of all proteins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from lcframework.scoring.intervals import RESAMPLES, Interval, bootstrap_ratio
from lcframework.scoring.proteingym.assay_metrics import spearman


def ratio_score(right: Sequence[float], scored: Sequence[float], seed: int = 0) -> Interval:
    """Accuracy or precision from counts per protein."""
    return bootstrap_ratio(right, scored, seed=seed)


def spearman_score(
    predicted: Sequence[float], true: Sequence[float], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Spearman's correlation over proteins; the interval is the percentile bootstrap's, over the
    resamples in which it is defined (NaN where none is)."""
    p, t = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    value = spearman(t, p)
    generator = np.random.default_rng(seed)
    draws = [spearman(t[chosen], p[chosen]) for chosen in _resamples(generator, len(p), resamples)]
    defined = np.array([one for one in draws if np.isfinite(one)])
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (np.nan, np.nan)
    return Interval(value, float(low), float(high), len(p))


def _resamples(generator: np.random.Generator, n: int, resamples: int) -> Any:
    for _ in range(resamples):
        yield generator.integers(0, n, n)


class PerProtein(Metric):
    """Two numbers per protein, gathered from all ranks; a protein seen twice counts once."""

    full_state_update = False
    ids: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("ids", "first", "second"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, ids: Tensor, first: Tensor, second: Tensor) -> None:
        """Add S proteins: (S,) their numbers and (S,) each of the two."""
        self.ids.append(ids.long())
        self.first.append(first.double())
        self.second.append(second.double())

    def compute(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The two numbers of each protein, in the order of the ids."""
        columns = [_cat(one).cpu().numpy() for one in (self.ids, self.first, self.second)]
        ids, first, second = columns
        _, chosen = np.unique(ids, return_index=True)
        return first[chosen], second[chosen]


def _cat(state: Any) -> Tensor:
    # After a reduction over ranks the state is one tensor already.
    return torch.cat(state) if isinstance(state, list) else state
