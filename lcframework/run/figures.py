"""The pictures of a run and of a comparison of runs (matplotlib, drawn without a screen)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from lcframework.files import TOO_FEW, save_figure, write_csv
from lcframework.run.csv_log import FILE_NAME as METRICS
from lcframework.run.csv_log import read_metrics

SMOOTHED = 10  # logged batches
Runs = Mapping[str, tuple[Path, dict[str, Any]]]


def _smooth(values: list[float], window: int) -> list[float]:
    """Mean of the last `window` values up to each point."""
    return [
        sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))
    ]


def _logged(folder: Path) -> list[dict[str, Any]]:
    """Rows of `metrics.csv` with a training loss; none where the run did not train."""
    path = folder / METRICS
    return [row for row in read_metrics(path) if "train/loss" in row] if path.is_file() else []


def draw_loss(axes: Axes, runs: Runs, baselines: Mapping[str, float]) -> None:
    """Training loss in nats per predicted token against tokens seen; faint lines are single
    batches."""
    for name, (folder, _) in runs.items():
        rows = _logged(folder)
        tokens, loss = [row["train/tokens"] for row in rows], [row["train/loss"] for row in rows]
        (line,) = axes.plot(tokens, _smooth(loss, SMOOTHED), label=name)
        axes.plot(tokens, loss, color=line.get_color(), alpha=0.2, linewidth=0.8)
    for style, (name, perplexity) in zip(
        ("-", "--", "-.", ":", (0, (1, 4))), baselines.items(), strict=False
    ):
        label = f"{name}, test proteins"
        axes.axhline(math.log(perplexity), color="0.5", linestyle=style, linewidth=1, label=label)
    downstream = any("tape" in record["tables"] for _, record in runs.values())
    of_task = "" if downstream else " (nats per predicted token)"
    axes.set(
        xlabel="training tokens",
        ylabel=f"loss{of_task}",
        title=f"Training loss, mean of {SMOOTHED} logged batches",
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(fontsize=8)


def draw_amino_acids(axes: Axes, runs: Runs) -> None:
    """Accuracy per amino acid on the test proteins."""
    width = 0.8 / max(1, len(runs))
    letters: list[str] = []
    for index, (name, (_, record)) in enumerate(runs.items()):
        rows = record["tables"].get("amino_acids", [])
        letters = letters or [row["residue"] for row in rows]
        heights = [row["accuracy"] or 0.0 for row in rows]
        axes.bar(
            [i + (index - (len(runs) - 1) / 2) * width for i in range(len(rows))],
            heights,
            width,
            label=name,
        )
    axes.set_xticks(range(len(letters)), letters)
    axes.set(xlabel="amino acid", ylabel="accuracy", title="Accuracy per amino acid, test proteins")
    axes.legend(fontsize=8)


def draw_length_bins(axes: Axes, runs: Runs) -> None:
    """Test perplexity by protein length with 95% intervals; bins with too few proteins are left
    out."""
    labels: list[str] = []
    for index, (name, (_, record)) in enumerate(runs.items()):
        rows = record["tables"].get("length_bins", [])
        labels = labels or [f"{row['bin']}\nn={row['n']}" for row in rows]
        points = [(i, row) for i, row in enumerate(rows) if row["perplexity"] is not None]
        x = [i + (index - (len(runs) - 1) / 2) * 0.15 for i, _ in points]
        y = [row["perplexity"] for _, row in points]
        low = [row["perplexity"] - row["low"] for _, row in points]
        high = [row["high"] - row["perplexity"] for _, row in points]
        axes.errorbar(x, y, yerr=[low, high], fmt="o", capsize=3, label=name)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(
        xlabel="residues (n: test proteins of that length)",
        ylabel="perplexity, 95% interval",
        title="Perplexity by length, test proteins",
    )
    axes.legend(fontsize=8)


def comparison_figure(
    runs: Runs, baselines: Mapping[str, float], folder: Path, name: str = "report.png"
) -> Path:
    """Draw loss, accuracy per amino acid and perplexity by length of several runs; returns the
    PNG's path."""
    figure = Figure(figsize=(17, 5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    draw_loss(left, runs, baselines)
    draw_amino_acids(middle, runs)
    draw_length_bins(right, runs)
    return save_figure(figure, folder / name)


def run_figures(folder: Path, record: dict[str, Any], baselines: Mapping[str, float]) -> list[Path]:
    """Write the pictures of one run and the table beside each to `folder/figures`.

    `loss` (where the run has logged training losses), `amino_acids` and `length_bins` (where it
    was tested), each as PNG and CSV.

    Args:
        folder: the run directory.
        record: content of its `results.json`.
        baselines: perplexities by name, drawn beside the training loss.

    Returns:
        The pictures.
    """
    name = (record["tables"].get("model") or [{}])[0].get("name", folder.name)
    runs, target = {name: (folder, record)}, folder / "figures"
    drawn = []
    losses = [{"tokens": row["train/tokens"], "loss": row["train/loss"]} for row in _logged(folder)]
    if losses:
        write_csv(target / "loss.csv", losses)
        drawn.append(("loss", lambda axes: draw_loss(axes, runs, baselines)))
    for table, draw in (("amino_acids", draw_amino_acids), ("length_bins", draw_length_bins)):
        rows = record["tables"].get(table)
        if rows:
            write_csv(target / f"{table}.csv", rows, TOO_FEW if table == "length_bins" else "")
            drawn.append((table, lambda axes, draw=draw: draw(axes, runs)))
    pictures = []
    for stem, draw in drawn:
        figure = Figure(figsize=(8, 5), layout="constrained")
        draw(figure.subplots())
        pictures.append(save_figure(figure, target / f"{stem}.png"))
    return pictures
