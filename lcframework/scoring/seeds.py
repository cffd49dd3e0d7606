"""The mean of a score over seeds, with Student's interval."""

import statistics
from collections.abc import Sequence

from lcframework.scoring.intervals import Interval

T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
"""97.5% quantiles of Student's t with 1 to 20 degrees of freedom."""
NORMAL_975 = 1.960


def mean_over_seeds(values: Sequence[float]) -> Interval:
    """Mean and its 95% interval from the spread of the seeds.

    Args:
        values: one per seed, at least one.

    Returns:
        Mean, mean +- t s / sqrt(n), and n. One seed has no spread: its interval is NaN.
    """
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n)
    quantile = T_975[n - 2] if n - 2 < len(T_975) else NORMAL_975
    spread = quantile * statistics.stdev(values) / n**0.5
    return Interval(mean, mean - spread, mean + spread, n)
