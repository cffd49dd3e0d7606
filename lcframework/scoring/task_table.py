"""Scored answers to a table: one row per task, with an interval over documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from lcframework.scoring import longbench
from lcframework.scoring.intervals import Interval, bootstrap_ratio

Row = Mapping[str, Any]


def interval_over_documents(rows: Sequence[Row]) -> Interval:
    """Mean `score` x 100 with the 95% bootstrap interval over whole `document`s, since answers
    about one document are not independent. `n` counts documents.

    Raises:
        ValueError: there are no rows.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for row in rows:
        sums[row["document"]] = sums.get(row["document"], 0.0) + 100 * row["score"]
        counts[row["document"]] = counts.get(row["document"], 0) + 1
    return bootstrap_ratio(list(sums.values()), list(counts.values()))


def task_table(rows: Sequence[Row], items: Mapping[str, int]) -> list[dict[str, Any]]:
    """One row per task.

    Args:
        rows: of answers and of items not run, each with `suite`, `task`, `document`, `score` (None
            if not run), `answer`, `truncated` (tokens).
        items: number of items by task, in the order of the table.

    Returns:
        Rows of `task`; `score` (percent; LongBench's rounded as the official one), `low`, `high`,
        None without scored items; `n` items scored; `documents` they are about; `not_run` for want
        of positions; `missing`, without an answer yet; `truncated` items; `empty` answers.
    """
    table = []
    for task, total in items.items():
        own = [row for row in rows if row["task"] == task]
        scored = [row for row in own if row["score"] is not None]
        score = low = high = None
        if scored:
            found = interval_over_documents(scored)
            score, low, high = found.value, found.low, found.high
            if scored[0]["suite"] == "longbench":
                score = longbench.task_score([row["score"] for row in scored])
        table.append(
            {
                "task": task,
                "score": score,
                "low": low,
                "high": high,
                "n": len(scored),
                "documents": len({row["document"] for row in scored}),
                "not_run": len(own) - len(scored),
                "missing": total - len(own),
                "truncated": sum(row["truncated"] > 0 for row in scored),
                "empty": sum(not row["answer"].strip() for row in scored),
            }
        )
    return table


def average_rows(table: Sequence[Row]) -> list[dict[str, Any]]:
    """LongBench's averages of a `task_table`, with the tasks each rests on and should rest on."""
    scores = {row["task"]: row["score"] for row in table if row["score"] is not None}
    return [
        {"average": name, "score": value, "tasks": have, "of": want}
        for name, (value, have, want) in longbench.averages(scores).items()
    ]


def bucket_rows(rows: Sequence[Row], items: Mapping[str, int]) -> list[dict[str, Any]]:
    """LongBench-E's score of each task by length bucket, None for a bucket without items."""
    table = []
    for task in items:
        own = [row for row in rows if row["task"] == task and row["score"] is not None]
        scores, lengths = [row["score"] for row in own], [row["length"] for row in own]
        table.append({"task": task, **longbench.bucket_scores(scores, lengths)})
    return table
