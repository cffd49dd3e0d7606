"""Compare runs of downstream tasks: mean over seeds with its interval, beside the baselines."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lcframework.callbacks.tape_table import tape_figure
from lcframework.files import save_figure, write_csv
from lcframework.scoring.seeds import mean_over_seeds

NAME = "report_downstream"
WIDTH = 150


def seed_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per task, test split and method, over all runs that have it.

    A baseline has no seed and is the same in every run of one setting: its interval is that over
    proteins, as the run has it.

    Returns:
        Rows as the runs' own table has them, `value` the mean over seeds, `low` and `high` its 95%
        interval (None for one seed), and `seeds`.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in records:
        for row in record["tables"]["tape"]:
            key = tuple(row[name] for name in ("task", "test", "method", "note"))
            groups.setdefault(key, []).append(row)
    found = []
    for rows in groups.values():
        values = [row["value"] for row in rows if row["value"] is not None]
        bounds = {name: rows[0][name] for name in ("value", "low", "high")}
        if values and (len(set(values)) > 1 or not _is_baseline(rows[0])):
            mean = mean_over_seeds(values)
            pair = {"low": mean.low, "high": mean.high}
            bounds = {"value": mean.value} | {
                name: None if math.isnan(one) else one for name, one in pair.items()
            }
        found.append({**rows[0], **bounds, "seeds": len(values)})
    return sorted(found, key=lambda row: (row["task"], row["test"]))


def _is_baseline(row: Mapping[str, Any]) -> bool:
    return not row["method"].endswith(("fine-tuned", "frozen"))


def report_downstream(records: Sequence[Mapping[str, Any]], to: Path) -> list[dict[str, Any]]:
    """Print the comparison and write `report_downstream.csv` and `.png`.

    Args:
        records: `results.json` of the runs, with a table `tape`.
        to: folder of the files.
    """
    rows = seed_rows(records)
    table = Table(title="Downstream tasks; interval: over seeds, of baselines over proteins")
    for name in ("task", "test", "method"):
        table.add_column(name, overflow="fold")
    for name in ("metric", "value", "95%", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        interval = "-" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        value = "-" if row["value"] is None else f"{row['value']:.3f}"
        table.add_row(
            row["task"], row["test"], row["method"], row["metric"], value, interval,
            str(row["seeds"]),
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    for note in dict.fromkeys(row["note"] for row in rows):
        console.print(note, style="dim")
    to.mkdir(parents=True, exist_ok=True)
    write_csv(to / f"{NAME}.csv", rows)
    picture = save_figure(tape_figure(rows), to / f"{NAME}.png")
    console.print(f"Written: {to / NAME}.csv, {picture}", soft_wrap=True)
    return rows
