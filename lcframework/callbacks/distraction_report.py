"""The distraction report: `FocusedReport` with what distractors cost, as tables and pictures."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure

from lcframework.callbacks.focused_report import FocusedReport
from lcframework.files import save_figure, write_csv
from lcframework.scoring.distraction import calibration, gaps, heat_map

log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]


class DistractionReport(FocusedReport):
    """For NQd and tasks whose answers hold `gold_nats` in `more`. Beside what
    `FocusedReport` writes: `distraction_map`, `distraction_gap` and `calibration` as CSV, the
    first also as a PNG.

    Args:
        folder: the run directory.

    Attributes:
        results: also `test/distraction_gap@N` (percent points, N documents) and
            `test/distraction_nats@N` with intervals over questions, `test/flips@N` in percent,
            `test/calibration_error`, and the tables. Further kinds of distractors have their
            name behind the number: `@N,NAME`.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score everything, then draw what distractors cost."""
        super().on_test_epoch_end(trainer, pl_module)
        rows = self.rows
        found, torn = heat_map(rows), gaps(rows)
        table, error = calibration(rows)
        tables = {"distraction_map": found, "distraction_gap": torn, "calibration": table}
        self.results["tables"] |= tables
        metrics = self.results["metrics"]
        for row in torn:
            n = f"{row['documents']},{row['kind']}" if row["kind"] else row["documents"]
            nats = _interval(row, "n", "nats_gap", "nats_low", "nats_high")
            metrics[f"test/distraction_nats@{n}"] = nats
            if row["written"]:
                gap = _interval(row, "written", "gap", "low", "high")
                metrics[f"test/distraction_gap@{n}"] = gap
                metrics[f"test/flips@{n}"] = _interval(row, "written", "flips")
        if table:
            written = sum(row["n"] for row in table)
            about = {"value": error, "low": None, "high": None, "n": written}
            metrics["test/calibration_error"] = about
        if not trainer.is_global_zero:
            return
        for name, content in tables.items():
            if content:
                write_csv(self.folder / "figures" / f"{name}.csv", content)
        save_figure(draw_map(found), self.folder / "figures" / "distraction_map.png")
        for row in torn:
            _show(row)


def _show(row: dict[str, Any]) -> None:
    what = f"{row['documents']} documents{row['kind'] and ' of kind '}{row['kind']}"
    log.info(
        "%s: the right answer costs %.3f nats more per token than without distractors "
        "(95%% interval %.3f to %.3f, n=%d)",
        what, row["nats_gap"], row["nats_low"], row["nats_high"], row["n"],
    )  # fmt: skip
    if row["written"]:
        log.info(
            "%s: distraction gap %.2f points (95%% interval %.2f to %.2f, n=%d), %.1f%% "
            "of the answers change",
            what, row["gap"], row["low"], row["high"], row["written"], row["flips"],
        )  # fmt: skip


def _interval(
    row: dict[str, Any], n: str, value: str, low: str = "", high: str = ""
) -> dict[str, Any]:
    return {"value": row[value], "low": row.get(low), "high": row.get(high), "n": row[n]}


def draw_map(table: Rows) -> Figure:
    """Score by number of documents and place of the gold passage, or, where no answer was written,
    the loss of the right one; a panel per kind of distractors; places that were not tested stay
    white."""
    column, unit = "score", "score (%)"
    if all(row["score"] is None for row in table):
        column, unit = "gold_nats", "loss of the right answer (nats per token)"
    kinds = list(dict.fromkeys(row["kind"] for row in table))
    counts = sorted({row["documents"] for row in table})
    places = sorted({row["gold_at"] for row in table if row["gold_at"] is not None})
    columns = [*places, *([None] if any(row["gold_at"] is None for row in table) else [])]
    size = (1.5 + (1.0 + 0.7 * len(columns)) * len(kinds), 2.0 + 0.5 * len(counts))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    top = 100 if column == "score" else max(row[column] for row in table)
    images = []
    for axes, kind in zip(panels, kinds, strict=True):
        grid = torch.full((len(counts), len(columns)), float("nan"))
        for row in table:
            if row["kind"] != kind or row[column] is None:
                continue
            x, y = columns.index(row["gold_at"]), counts.index(row["documents"])
            grid[y, x] = row[column]
            text = f"{row[column]:.0f}" if column == "score" else f"{row[column]:.2f}"
            color = "black" if row[column] > 0.6 * top else "white"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, color=color)
        images.append(axes.imshow(grid.numpy(), vmin=0, vmax=top, cmap="viridis", aspect="auto"))
        names = ["none" if one is None else str(one) for one in columns]
        axes.set_xticks(range(len(columns)), names)
        axes.set_yticks(range(len(counts)), [str(one) for one in counts])
        axes.set(xlabel="place of the gold passage, from 0")
        if len(kinds) > 1:
            axes.set_title(kind or "main kind", fontsize=9)
    panels[0].set(ylabel="documents")
    figure.colorbar(images[-1], ax=list(panels), label=unit)
    return figure
