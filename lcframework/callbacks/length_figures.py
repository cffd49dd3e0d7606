"""Tables (CSV, JSON) and one picture for each part of the report by length."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lcframework.files import TOO_FEW, save_figure, write_csv, write_json
from lcframework.scoring.context_pairs import LONGER_THAN_THIS, SAME_PROTEINS
from lcframework.scoring.end_distance import ENDS

Rows = Sequence[Mapping[str, Any]]


def write_length_report(tables: Mapping[str, Rows], folder: Path) -> list[Path]:
    """Write `NAME.csv`, `NAME.json` and `NAME.png` for each table of `LengthReport`.

    A number missing for want of proteins is null in JSON, "too few" in CSV and picture.

    Returns:
        The pictures.
    """
    draw = {
        "scores_by_length": _length_figure,
        "loss_by_end_distance": _distance_figure,
        "loss_by_context": _context_figure,
    }
    pictures = []
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", rows, missing=TOO_FEW)
        write_json(folder / f"{name}.json", rows)
        pictures.append(save_figure(draw[name](rows), folder / f"{name}.png"))
    return pictures


def count_label(label: Any, proteins: int) -> str:
    """A tick's label: what the bin is, and how many proteins it rests on."""
    return f"{label}\nn={proteins:,}"


def points_with_intervals(
    axes: Axes, rows: Rows, column: str, label: str | None = None, first: int = 0
) -> None:
    """Values with 95% intervals at 0, 1, 2, ...; "too few" is written where there is none.

    Args:
        axes: where to draw.
        rows: what to draw.
        column: its value; the interval is in `column_low` and `column_high`.
        label: for a legend.
        first: rows before this one are left out, their places stay.
    """
    known = [(x, row) for x, row in enumerate(rows) if row[column] is not None and x >= first]
    y = [row[column] for _, row in known]
    # Percentile intervals may miss the value by rounding: an error bar must not be negative.
    below = [max(0.0, row[column] - row[f"{column}_low"]) for _, row in known]
    above = [max(0.0, row[f"{column}_high"] - row[column]) for _, row in known]
    if known:
        axes.errorbar([x for x, _ in known], y, [below, above], fmt="o-", capsize=4, label=label)
    for x, row in enumerate(rows):
        if row[column] is None:
            _write_upright(axes, x, TOO_FEW)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", alpha=0.3)


def _write_upright(axes: Axes, x: float, text: str) -> None:
    """Write where a point is missing, from the bottom up."""
    place: Any = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
    axes.text(x, 0.03, text, rotation=90, fontsize=8, color="0.45", **place)


def _length_figure(rows: Rows) -> Figure:
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    labels = [count_label(row["bin"], row["proteins"]) for row in rows]
    names = {
        "loss": "loss (nats per masked residue)",
        "perplexity": "perplexity",
        "accuracy": "accuracy",
    }
    for axes, (column, name) in zip(figure.subplots(1, 3), names.items(), strict=True):
        points_with_intervals(axes, rows, column)
        axes.set_xticks(range(len(rows)), labels, fontsize=7, rotation=45)
        axes.set(xlabel="residues of the protein", ylabel=name)
    figure.suptitle("Masked residues by length of the protein, 95% intervals over proteins")
    return figure


def _distance_figure(rows: Rows) -> Figure:
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, end in zip(both, ENDS, strict=True):
        chosen = [row for row in rows if row["end"] == end]
        apart = end == "N" and _first_is_apart(rows)
        points_with_intervals(axes, chosen, "loss", first=int(apart))
        if apart:
            _write_upright(axes, 0, f"{chosen[0]['loss']:.2f}, far below: mostly methionine")
        labels = [count_label(row["distance"], row["proteins"]) for row in chosen]
        axes.set_xticks(range(len(chosen)), labels, fontsize=8, rotation=45)
        axes.set(
            xlabel="residues before it" if end == "N" else "residues behind it",
            title=f"Residues nearer to the {end}-terminus",
        )
    both[0].set_ylabel("loss (nats per masked residue)")
    figure.suptitle(
        "Loss by distance from the ends, 95% intervals over proteins (n: those that reach so far)"
    )
    return figure


def _first_is_apart(rows: Rows) -> bool:
    """Whether the first residue's loss lies so far below the rest that it would flatten them.

    Nearly every protein begins with methionine, so a trained network knows it.
    """
    first, *others = rows
    known = [row for row in others if row["loss"] is not None]
    if first["loss"] is None or not known:
        return False
    low, high = min(row["loss_low"] for row in known), max(row["loss_high"] for row in known)
    return first["loss_high"] < low - 0.2 * (high - low)


def _context_figure(rows: Rows) -> Figure:
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(both, (LONGER_THAN_THIS, SAME_PROTEINS), strict=True):
        chosen = [row for row in rows if row["proteins_compared"] == name]
        axes.axhline(0.0, color="0.4", linewidth=1)
        points_with_intervals(axes, chosen, "difference")
        labels = [count_label(f"{row['context']:,}", row["proteins"]) for row in chosen]
        axes.set_xticks(range(len(chosen)), labels, fontsize=9)
        axes.set(xlabel="context in tokens", title="Proteins longer than this context")
        if name == SAME_PROTEINS:
            axes.set_title(f"The same proteins: longer than {chosen[0]['longer_than']:,} tokens")
    both[0].set_ylabel("loss in the window minus\nloss in the whole protein (nats)")
    figure.suptitle(
        "The same masked residues with less context, 95% intervals over proteins: "
        "above 0, the rest of the protein helps"
    )
    return figure


def summary(tables: Mapping[str, Rows]) -> list[str]:
    """Lines for the terminal: each length bin, each context on all proteins longer than it."""
    lines = []
    for row in tables["scores_by_length"]:
        numbers = f"loss {_with_interval(row, 'loss')}, accuracy {_with_interval(row, 'accuracy')}"
        lines.append(_line(f"length {row['bin']}", row, "loss", numbers))
    for row in tables.get("loss_by_context", []):
        if row["proteins_compared"] == LONGER_THAN_THIS:
            numbers = f"loss minus the whole protein's {_with_interval(row, 'difference', 4)}"
            lines.append(_line(f"context {row['context']}", row, "difference", numbers))
    return lines


def _line(name: str, row: Mapping[str, Any], column: str, numbers: str) -> str:
    found = numbers if row[column] is not None else TOO_FEW
    return f"{name:<18}{found}, {row['proteins']:,} proteins"


def _with_interval(row: Mapping[str, Any], column: str, digits: int = 3) -> str:
    if row[column] is None:
        return TOO_FEW
    found = (round(row[column + end], digits) + 0.0 for end in ("", "_low", "_high"))  # no -0.0
    value, low, high = (f"{one:.{digits}f}" for one in found)
    return f"{value} ({low} to {high})"
