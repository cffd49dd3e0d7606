"""The table and the picture of a downstream task: the model beside what a sequence says alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lcframework.data.tape.tasks import TapeTaskSpec
from lcframework.files import save_figure, write_csv, write_json
from lcframework.scoring.intervals import Interval

Rows = list[dict[str, Any]]
Scores = Mapping[str, Mapping[str, Interval]]
"""Method -> test split -> score."""


def table_rows(spec: TapeTaskSpec, scores: Scores, note: str) -> Rows:
    """One row per test split and method; `note` says what the splits compare with."""
    return [
        {
            "task": spec.name,
            "test": split,
            "method": method,
            "metric": spec.metric,
            **{key: _defined(value) for key, value in score.as_dict().items()},
            "note": note,
        }
        for method, by_split in scores.items()
        for split, score in by_split.items()
    ]


def _defined(value: float | int) -> float | int | None:
    return value if value == value else None


def result_metrics(prefix: str, spec: TapeTaskSpec, by_split: Mapping[str, Interval]) -> dict:
    """The method's scores for `results.json`: `<prefix>/<metric>`, with the split's name before the
    metric where there are several."""
    several = len(by_split) > 1
    return {
        f"{prefix}/{split + '_' if several else ''}{spec.metric}": {
            key: _defined(value) for key, value in score.as_dict().items()
        }
        for split, score in by_split.items()
    }


def write_table(rows: Rows, folder: Path, name: str) -> None:
    """`<name>.csv`, `.json` and `.png` in a folder, each whole or not at all."""
    write_csv(folder / f"{name}.csv", rows, "undefined")
    write_json(folder / f"{name}.json", rows)
    save_figure(tape_figure(rows), folder / f"{name}.png")


def tape_figure(rows: Rows) -> Figure:
    """Methods as bars with their intervals, one group per test split."""
    splits = list(dict.fromkeys(f"{row['task']}, {row['test']}" for row in rows))
    figure = Figure(figsize=(8, 1.6 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for index, row in enumerate(rows):
        if row["value"] is None:
            continue
        low, high = row["low"], row["high"]
        error = None
        if low is not None and high is not None:
            error = [[max(0.0, row["value"] - low)], [max(0.0, high - row["value"])]]
        group = splits.index(f"{row['task']}, {row['test']}")
        axes.barh(index, row["value"], xerr=error, color=f"C{group % 10}", alpha=0.8)
    labels = [
        f"{row['method']}\n{row['task']}, {row['metric']}, {row['test']}, n={row['n']:,}"
        for row in rows
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    axes.invert_yaxis()
    metrics = " or ".join(dict.fromkeys(row["metric"] for row in rows))
    axes.set(xlabel=f"{metrics} (95% interval)")
    # What is added behind a semicolon is said by the split's name in the labels.
    notes = dict.fromkeys(row["note"].partition(";")[0] for row in rows)
    axes.set_title("\n".join(notes), fontsize=9)
    return figure
