"""Scores of items to scores of tasks, length buckets and averages (LongBench `eval.py`, README)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lcframework.scoring.intervals import RESAMPLES, Interval, bootstrap_ratio
from lcframework.scoring.longbench.tasks import CATEGORIES, CHINESE, METRICS, check_task

BUCKETS = {"0-4k": (0, 4000), "4-8k": (4000, 8000), "8k+": (8000, None)}
"""LongBench-E's buckets of an item's `length` (words, or characters of Chinese); lower end
included."""


def task_score(scores: Sequence[float]) -> float:
    """The official number of a task: mean x 100, rounded to two places.

    Args:
        scores: of the items, each in [0, 1].

    Raises:
        ValueError: there are none.
    """
    if not scores:
        raise ValueError("a task without scored items has no score")
    total = 0.0
    for one in scores:  # in this order and not by numpy's pairwise sum, as the original
        total += one
    return round(100 * total / len(scores), 2)


def task_interval(
    scores: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The official number with the 95% percentile bootstrap interval over items."""
    values = 100 * np.asarray(scores, dtype=np.float64)
    found = bootstrap_ratio(values, np.ones(len(values)), resamples=resamples, seed=seed)
    return replace(found, value=task_score(scores))


def bucket_scores(scores: Sequence[float], lengths: Sequence[int]) -> dict[str, float | None]:
    """LongBench-E's numbers by length: mean x 100, rounded; None for a bucket without items."""
    found: dict[str, float | None] = {}
    for name, (low, high) in BUCKETS.items():
        inside = [
            one
            for one, length in zip(scores, lengths, strict=True)
            if length >= low and (high is None or length < high)
        ]
        found[name] = round(float(100 * np.mean(inside)), 2) if inside else None
    return found


def averages(scores: Mapping[str, float]) -> dict[str, tuple[float, int, int]]:
    """Means of task scores.

    Args:
        scores: by task, as `task_score` gives them, of any choice of tasks.

    Returns:
        By name `(mean, tasks it rests on, tasks it should rest on)`: `all tasks`, the mean over
        tasks; the six categories over both languages; `English` and `Chinese`, the mean over the
        categories of the mean over their tasks of that language, with both code tasks in each, as
        the leaderboard's Avg. A mean over no task is left out.

    Raises:
        ValueError: an unknown task.
    """
    for task in scores:
        check_task(task)
    found = {"all tasks": _mean_of(scores, tuple(METRICS))}
    found |= {name: _mean_of(scores, tasks) for name, tasks in CATEGORIES.items()}
    for name, chinese in (("English", False), ("Chinese", True)):
        groups = [
            tuple(one for one in tasks if category == "code" or (one in CHINESE) == chinese)
            for category, tasks in CATEGORIES.items()
        ]
        means = [mean for group in groups if (mean := _mean_of(scores, group)) is not None]
        if means:
            found[name] = (
                float(np.mean([one[0] for one in means])),
                sum(one[1] for one in means),
                sum(map(len, groups)),
            )
    return {name: value for name, value in found.items() if value is not None}


def _mean_of(scores: Mapping[str, float], tasks: Sequence[str]) -> tuple[float, int, int] | None:
    given = [scores[one] for one in tasks if one in scores]
    return (float(np.mean(given)), len(given), len(tasks)) if given else None
