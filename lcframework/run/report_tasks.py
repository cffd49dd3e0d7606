"""Compare runs that answered benchmarks: scores per task and, item by item, the difference from the
first run."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lcframework.errors import RunDirError
from lcframework.files import save_figure, write_csv
from lcframework.scoring.paired import score_difference

log = logging.getLogger(__name__)
ITEMS = "figures/items.csv"
Record = Mapping[str, Any]
Items = dict[str, dict[str, str]]


def read_items(folder: Path, wanted: Sequence[str] = ("score",)) -> Items:
    """Scored items of a run, by key and digest of the prompt or item.

    Args:
        folder: the run.
        wanted: only items that have all of these columns filled.

    Raises:
        RunDirError: the table is missing or is not ours.
    """
    path = folder / ITEMS
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        # Runs with other retrievers are asked the same: there the prompt's own digest counts.
        return {f"{row['key']} {row.get('prompt_digest') or row['digest']}": row for row in rows
                if all(row[name] for name in wanted)}  # fmt: skip
    except (OSError, KeyError) as error:
        raise RunDirError(
            f"{path} cannot be read ({error}): run the evaluation again with the same run_id; its "
            "answers are kept."
        ) from error


def task_rows(
    names: Sequence[str], records: Sequence[Record], items: Sequence[Items]
) -> list[dict]:
    """One row per task and run.

    Args:
        names: of the runs; the first is the one that the others are held against.
        records: their `results.json`.
        items: their scored items.

    Returns:
        Rows of `task`, `run`, `score`, `low`, `high` (percent), `n`, `not_run`, and for the items
        that the first run scored too `difference`, `difference_low`, `difference_high` (points) and
        `paired`, their number; None without any, and for the first run.
    """
    rows = []
    for name, record, own in zip(names, records, items, strict=True):
        for found in record["tables"]["tasks"]:
            shared = [
                key for key, row in own.items()
                if row["task"] == found["task"] and key in items[0] and own is not items[0]
            ]  # fmt: skip
            difference: dict[str, Any] = dict.fromkeys(("value", "low", "high"))
            if shared:
                before, after = ([100 * float(one[key]["score"]) for key in shared]
                                 for one in (items[0], own))  # fmt: skip
                documents = [own[key]["document"] for key in shared]
                difference = score_difference(before, after, documents).as_dict()
            rows.append(
                {
                    "task": found["task"],
                    "run": name,
                    **{key: found[key] for key in ("score", "low", "high", "n", "not_run")},
                    "difference": difference["value"],
                    "difference_low": difference["low"],
                    "difference_high": difference["high"],
                    "paired": len(shared) or None,
                }
            )
    return rows


def draw_task_rows(rows: Sequence[dict[str, Any]]) -> Figure:
    """Scores with intervals: a group per task, a colour per run."""
    tasks, runs = (list(dict.fromkeys(row[key] for row in rows)) for key in ("task", "run"))
    figure = Figure(figsize=(9, 1.5 + 0.25 * len(tasks) * (1 + len(runs))), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        own = [row for row in rows if row["run"] == run and row["score"] is not None]
        places = [tasks.index(row["task"]) - 0.4 + (number + 0.5) * width for row in own]
        axes.barh(places, [row["score"] for row in own], width, label=run, alpha=0.6)
        for place, row in zip(places, own, strict=True):
            axes.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.set(xlim=(0, 100), xlabel="score (%), line: 95% interval over documents")
    axes.legend(fontsize=8)
    return figure


def report_tasks(
    folders: Sequence[Path], names: Sequence[str], records: Sequence[Record], target: Path
) -> list[dict[str, Any]]:
    """Print the scores and write `report_tasks.csv` and `report_tasks.png`; returns the rows.

    Raises:
        RunDirError: a run's table of items is missing.
    """
    rows = task_rows(names, records, [read_items(folder) for folder in folders])
    table = Table("task", "run", title="Scores in percent; difference from the first run, paired")
    for column in ("score", "95%", "n", "not run", "difference", "95%", "pairs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["task"], row["run"], _number(row["score"]), _span(row["low"], row["high"]),
            str(row["n"]), str(row["not_run"]), _number(row["difference"], "+.2f"),
            _span(row["difference_low"], row["difference_high"]), str(row["paired"] or "-"),
        )  # fmt: skip
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)
    target.mkdir(parents=True, exist_ok=True)
    write_csv(target / "report_tasks.csv", rows)
    picture = save_figure(draw_task_rows(rows), target / "report_tasks.png")
    console.print(f"Written: {target / 'report_tasks.csv'}, {picture}", soft_wrap=True)
    return rows


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def _span(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"{_number(low)} to {_number(high)}"
