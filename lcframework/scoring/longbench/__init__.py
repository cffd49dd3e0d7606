"""LongBench's scores (Bai et al., arXiv 2308.14508), equal to the official `metrics.py` and
`eval.py` of THUDM/LongBench, oddities included."""

from lcframework.scoring.longbench.aggregate import (
    BUCKETS,
    averages,
    bucket_scores,
    task_interval,
    task_score,
)
from lcframework.scoring.longbench.tasks import CATEGORIES, METRICS, post_process, score

__all__ = [
    "BUCKETS",
    "CATEGORIES",
    "METRICS",
    "averages",
    "bucket_scores",
    "post_process",
    "score",
    "task_interval",
    "task_score",
]
