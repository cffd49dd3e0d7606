"""The measures of answered questions as a torchmetrics metric, summed over ranks."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lcframework.scoring.focused import MEASURES, PLAIN, Answered, measures


class AnswerMetric(Metric):
    """Means of what `scoring.focused.measures` says of each question.

    Sums and counts are added up over batches and ranks, so the means are those over all questions,
    as the data sets define them, and never means of means.

    Args:
        suite: one of `MEASURES`.
        **kwargs: what `torchmetrics.Metric` takes.

    Raises:
        ValueError: an unknown suite.
    """

    full_state_update = False
    sums_M: Tensor
    counts_M: Tensor

    def __init__(self, suite: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if suite not in MEASURES:
            raise ValueError(f"{suite!r} has no measures; there are {', '.join(MEASURES)}")
        self.suite = suite
        self.names = (*MEASURES[suite], *PLAIN)
        # float64: sums of many shares would be rounded in float32.
        for name in ("sums_M", "counts_M"):
            zeros = torch.zeros(len(self.names), dtype=torch.float64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, answered: Answered) -> None:
        """Add one question.

        Raises:
            ValueError: it is of another suite.
        """
        if answered.suite != self.suite:
            raise ValueError(f"a question of {answered.suite!r} among those of {self.suite!r}")
        found = measures(answered)
        for place, name in enumerate(self.names):
            if name in found:
                self.sums_M[place] += found[name]
                self.counts_M[place] += 1

    def compute(self) -> dict[str, float]:
        """Mean of each measure that a question had; shares in [0, 1]."""
        return {
            name: float(total / count)
            for name, total, count in zip(self.names, self.sums_M, self.counts_M, strict=True)
            if count > 0
        }
