"""Pictures of methods that read a part of a document: quality against the measured budget, and what
each layer reads."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lcframework.scoring.method_table import ALL

Rows = Sequence[Mapping[str, Any]]


def family(method: str) -> str:
    """What a line joins: "squeeze 70" and "squeeze 90", "quest @ squeeze 70" and "... 90", or the
    runs of one method, "quest 0.9 (run)"."""
    return re.split(r" @ | \(| (?:share )?[\d.]+(?: |$)", method)[0]


def draw_budget(table: Rows, title: str = "") -> Figure:
    """Score (left) and KL divergence (right, logarithmic) against the measured budget: a point per
    method, joined by family; bars are 95% intervals over documents.

    Args:
        table: of `scoring.method_table.method_table`; the rows over all benchmarks are drawn, or
            those of the only one.
        title: above the picture.
    """
    suites = {row["suite"] for row in table}
    shown = [row for row in table if row["suite"] == ALL or len(suites) == 1]
    families = list(dict.fromkeys(family(row["method"]) for row in shown))
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, name in enumerate(families):
        own = sorted(
            (row for row in shown if family(row["method"]) == name), key=lambda row: row["budget"]
        )
        style = {"color": f"C{number % 10}", "marker": "os^Dv"[number % 5], "label": name}
        _curve(left, own, "score", style)
        # Where nothing is dropped there is nothing but rounding: it would stretch the axis.
        _curve(right, [row for row in own if row["kept_question"] < 1 or row["budget"] < 1], "kl",
               style)  # fmt: skip
    left.set(
        xlabel="measured budget (share of keys and values per step)", ylabel="score (%)",
        title="answers, against the gold ones",
    )  # fmt: skip
    right.set(
        xlabel="measured budget", ylabel="KL(dense || method), nats per token", yscale="log",
        title="next-token distribution on the dense answers",
    )  # fmt: skip
    for axes in (left, right):
        axes.set_xlim(0, None)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    figure.suptitle(title)
    return figure


def _curve(axes: Axes, rows: Rows, column: str, style: dict[str, Any]) -> None:
    known = [row for row in rows if row[column] is not None]
    if not known:
        return
    x, y = [row["budget"] for row in known], [row[column] for row in known]
    axes.plot(x, y, markersize=5, linewidth=0.8, **style)
    for row in known:
        ends = [row[f"{column}_low"], row[f"{column}_high"]]
        axes.plot([row["budget"]] * 2, ends, color=style["color"], linewidth=1, alpha=0.5)


def draw_suites(table: Rows, title: str = "") -> Figure:
    """Difference of the score from the dense one, per benchmark and method, with intervals."""
    rows = [row for row in table if row["difference"] is not None]
    suites, methods = (list(dict.fromkeys(row[name] for row in rows)) for name in
                       ("suite", "method"))  # fmt: skip
    figure = Figure(figsize=(9, 1.5 + 0.18 * len(suites) * (len(methods) + 1)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    height = 0.85 / max(1, len(methods))
    for number, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        places = [suites.index(row["suite"]) - 0.42 + (number + 0.5) * height for row in own]
        color = f"C{number % 10}"
        axes.plot(
            [row["difference"] for row in own], places, "os^Dv"[number // 10 % 5], color=color,
            label=method, markersize=4,
        )  # fmt: skip
        for place, row in zip(places, own, strict=True):
            ends = [row["difference_low"], row["difference_high"]]
            axes.plot(ends, [place, place], color=color, linewidth=1)
    axes.axvline(0, color="black", linewidth=0.7)
    axes.set_yticks(range(len(suites)), suites)
    axes.set_ylim(len(suites) - 0.5, -0.5)
    axes.set(xlabel="score minus dense score of the same items (points)", title=title)
    if methods:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_layers(rows: Rows, title: str = "") -> Figure:
    """Share of the clustered tokens read in each layer, a line per method.

    Args:
        rows: of `scoring.method_table.layer_table`.
        title: above the picture.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        axes.plot(
            [row["layer"] for row in own], [row["kept"] for row in own], "o-", markersize=3,
            label=method,
        )  # fmt: skip
    axes.set(xlabel="layer", ylabel="share of the clustered tokens read", title=title)
    axes.set_ylim(0, None)
    axes.legend(fontsize=7)
    return figure
