"""Tables and a picture of scores over seeds, for `protein_scoring.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lcframework.files import write_csv, write_json
from lcframework.scoring.seeds import mean_over_seeds

SEED = ", seed "
"""Stands between a network's name and the seed of its pretraining."""


def write_seeds(rows: list[dict[str, Any]], keys: Sequence[str], value: str, path: Path) -> None:
    """Mean over the seeds of each network, one row per combination of `keys`; nothing is written
    where no network has two."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        method, cut, rest = row["method"].partition(SEED)
        if cut and row[value] is not None:
            behind = rest.partition(",")[1:]  # ", linear probe"
            group = (method + "".join(behind), *(row[key] for key in keys))
            groups.setdefault(group, []).append(row[value])
    found = []
    for (method, *others), values in groups.items():
        mean = mean_over_seeds(values)
        numbers = {"mean": mean.value, "low": mean.low, "high": mean.high, "seeds": len(values)}
        named = dict(zip(keys, others, strict=True))
        found.append({"method": method, "metric": value, **named, **numbers, "values": str(values)})
    if found:
        write_csv(path.with_suffix(".csv"), found)
        write_json(path.with_suffix(".json"), found)


def seeds_figure(rows: list[dict[str, Any]]) -> Any:
    """Each seed's score as a point, their mean with Student's 95% interval as a bar."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.4 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for index, row in enumerate(rows):
        seeds = [value for key, value in row.items() if key.startswith("seed_")]
        error = None
        if row["low"] is not None:
            error = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        axes.errorbar(row["mean"], index, xerr=error, fmt="D", color="C0", capsize=4)
        axes.plot(seeds, [index + 0.2] * len(seeds), "o", color="0.5", markersize=4)
    labels = [f"{row['method']}\n{row['task']}, {row['metric']}" for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0.0, color="0.4", linewidth=1)
    axes.grid(axis="x", alpha=0.3)
    notes = dict.fromkeys(row["note"].partition(";")[0] for row in rows)
    title = f"Fine-tuned on {rows[0]['training_proteins']} proteins; {', '.join(notes)}"
    axes.set_title(title, fontsize=8)
    axes.set_xlabel("accuracy or Spearman: mean of the seeds (95% interval), seeds below")
    return figure
