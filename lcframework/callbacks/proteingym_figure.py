"""One picture of ProteinGym: every method's Spearman correlation on every assay (or AUC)."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from lcframework.callbacks.proteingym_table import BLOSUM, POSITION, ScoredAssay, main_metric

MOST_SHOWN = 60
"""Assays drawn one by one; of more, those are left out that come last by name."""
MARKERS = {BLOSUM: "s", POSITION: "D"}


def proteingym_figure(scored: Sequence[ScoredAssay], model: str, title: str) -> Figure:
    """Assays as rows, Spearman (clinical sets: AUC) along x; the model's points are large,
    the others small.

    Args:
        scored: at least one.
        model: the method to show large.
        title: of the picture.
    """
    shown = sorted(scored, key=lambda one: (one.key.selection_type, one.dms_id))[:MOST_SHOWN]
    metric = main_metric(scored)
    names = list(dict.fromkeys(name for one in shown for name in one.methods))
    figure = Figure(figsize=(10, 1.8 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.5 if metric == "auc" else 0.0, color="0.4", linewidth=1)
    for name in names:
        points = [
            (one.methods[name][metric], row) for row, one in enumerate(shown) if name in one.methods
        ]
        own = name == model
        axes.scatter(
            [x for x, _ in points],
            [y for _, y in points],
            s=110 if own else 40,
            marker="o" if own else MARKERS.get(name, "|" if "published" in name else "o"),
            zorder=3 if own else 2,
            label=name,
        )
    labels = [f"{one.dms_id}\n{one.key.selection_type}, n={one.variants:,}" for one in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    labels_of = {"spearman": "Spearman correlation with the measurements"}
    axes.set(xlabel=labels_of.get(metric, "AUC, benign above pathogenic"), title=title)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
