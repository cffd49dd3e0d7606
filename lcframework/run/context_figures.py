"""Pictures of what squeezed attention read: per layer, how well chosen, how fast."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lcframework.files import save_figure
from lcframework.models.squeezed import Answer, SqueezedContext
from lcframework.models.squeezed.diagnosis import SelectionQuality


def _layer_axis(axes: Axes, layers: Sequence[int]) -> None:
    axes.set_xlabel("layer")
    if len(layers) <= 12:
        axes.set_xticks(list(layers))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_kept(
    answers: Mapping[str, Sequence[Answer]], context: SqueezedContext, path: str | Path
) -> Path:
    """Share of the document's tokens read per layer, while the questions were read and answered.

    A line is the mean over questions and heads, its band goes from the head that read least to the
    one that read most.

    Args:
        answers: by name of the setting.
        context: that was asked.
        path: PNG to write.

    Returns:
        The path.
    """
    layers = context.squeezed_layers
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, part, title in (
        (left, "kept_prefill", "reading the question"),
        (right, "kept_decode", "writing the answer"),
    ):
        for name, some in answers.items():
            shares = torch.stack([getattr(one, part) for one in some])
            shares = shares[~shares.isnan().flatten(1).any(1)]  # answers of a single token
            if not len(shares):
                continue
            heads_LH = shares.mean(0)
            mean = heads_LH.mean(1)
            label = f"{name}: {float(mean.mean()):.1%} on average"
            (line,) = axes.plot(layers, mean, marker="o", markersize=3, label=label)
            low, high = heads_LH.amin(1), heads_LH.amax(1)
            axes.fill_between(layers, low, high, color=line.get_color(), alpha=0.15)
        axes.set_title(title)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(bottom=0)
        _layer_axis(axes, layers)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    left.set_ylabel("clustered tokens read (band: heads)")
    figure.suptitle(
        f"{context.length:,} tokens, {type(context.model).__name__}, "
        f"{len(layers)} of {len(context.layers)} layers squeezed", fontsize=10,
    )  # fmt: skip
    return save_figure(figure, Path(path))


def plot_quality(quality: Sequence[SelectionQuality], path: Path) -> Path:
    """Recall of the oracle's keys and attention mass recovered, per layer and sparsity."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    layers = sorted({row.layer for row in quality})
    for sparsity in dict.fromkeys(row.sparsity for row in quality):
        rows = [row for row in quality if row.sparsity == sparsity]
        x = [row.layer for row in rows]
        label = f"sparsity {sparsity:g}"
        (line,) = left.plot(x, [row.recall for row in rows], marker="o", markersize=3, label=label)
        color = line.get_color()
        right.plot(
            x, [row.mass for row in rows], marker="o", markersize=3, color=color, label=label
        )
        right.plot(x, [row.oracle_mass for row in rows], linestyle=":", color=color)
    left.set(title="recall of the oracle's keys", ylim=(0, 1.02))
    right.set(title="attention mass recovered (dotted: by the oracle)")
    for axes in (left, right):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
        _layer_axis(axes, layers)
    return save_figure(figure, path)


def plot_latency(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Median seconds to the first token and milliseconds per further token of each setting."""
    names = [row["setting"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, column, title in zip(
        figure.subplots(1, 2),
        ("first_token_s", "ms_per_token"),
        ("first token (s)", "each further token (ms)"),
        strict=True,
    ):
        values = [row[column] or 0.0 for row in rows]
        colors = ["0.6"] + [f"C{n}" for n in range(len(rows) - 1)]
        bars = axes.bar(range(len(rows)), values, color=colors)
        axes.bar_label(bars, fmt="%.3g", fontsize=8)
        axes.set_xticks(range(len(rows)), names, fontsize=8)
        axes.set_title(title)
        axes.margins(y=0.12)
    return save_figure(figure, path)
