"""How depth and gates of the built circuits grow with the number of inputs and with precision.

Nothing is computed by formula here: every point is a circuit that was built.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lcframework.circuits.threshold.catalogue import Size, build
from lcframework.files import save_figure, write_csv

OVER_N = {
    "iterated-add": (Size(4), (2, 4, 8, 16, 32, 64)),
    "iterated-multiply": (Size(3), (2, 3, 4, 6, 8, 12, 16)),
    "float-sum": (Size(2), (2, 4, 8, 16, 32)),
    "float-product": (Size(2), (2, 3, 4, 6, 8, 12, 16)),
    "attention": (Size(2), (2, 3, 4, 5, 6)),
}
OVER_BITS = {
    "compare": (Size(), (2, 3, 4, 6, 8, 12, 16)),
    "add": (Size(), (2, 3, 4, 6, 8, 12, 16)),
    "multiply": (Size(), (2, 3, 4, 6, 8, 12)),
    "float-compare": (Size(), (2, 3, 4, 6, 8, 12)),
    "float-add": (Size(), (2, 3, 4, 6, 8, 12)),
    "float-multiply": (Size(), (2, 3, 4, 6, 8, 12)),
    "float-divide": (Size(), (2, 3, 4, 6, 8, 12)),
}
Series = dict[str, tuple[Size, Sequence[int]]]


def measure(over_n: Series | None = None, over_bits: Series | None = None) -> list[dict[str, Any]]:
    """Build every circuit of the series.

    Args:
        over_n: name: (size, values of n); default `OVER_N`.
        over_bits: name: (size, values of bits); default `OVER_BITS`.

    Returns:
        Rows: circuit, over ("n" or "bits"), value, bits, n, depth, gates, wires, weight_bits.
    """
    rows = []
    for over, series in (("n", over_n or OVER_N), ("bits", over_bits or OVER_BITS)):
        for name, (size, values) in series.items():
            for value in values:
                one = replace(size, **{over: value})
                circuit = build(name, one)
                rows.append(
                    {
                        "circuit": name,
                        "over": over,
                        "value": value,
                        "bits": one.bits,
                        "n": one.n,
                        "depth": circuit.depth,
                        "gates": circuit.size,
                        "wires": circuit.wire_count,
                        "weight_bits": circuit.weight_bits,
                    }
                )
    return rows


def save(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write growth.csv and growth.png; returns their paths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", gridspec_kw={"height_ratios": [1, 1.3]})
    panels = (
        ("n", "n: numbers, or tokens of the attention step", "over n: the same depth"),
        (
            "bits",
            "bits of a number (float: p, with p + 1 exponent bits)",
            "over precision: the same",
        ),
    )
    for column, (over, label, title) in enumerate(panels):
        some = [row for row in rows if row["over"] == over]
        _panel(axes[0, column], some, "depth")
        _panel(axes[1, column], some, "gates")
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel(label)
        ticks = sorted({row["value"] for row in some})
        axes[1, column].set_xticks(ticks, [str(tick) for tick in ticks])
        axes[1, column].minorticks_off()
        axes[1, column].legend(fontsize=8, loc="upper left", ncols=2)
    axes[0, 0].set_ylabel("depth (layers of gates)")
    axes[1, 0].set_ylabel("gates")
    table = folder / "growth.csv"
    write_csv(table, rows)
    return [table, save_figure(figure, folder / "growth.png", dpi=120)]


def _panel(axes, rows: Sequence[dict[str, Any]], key: str) -> None:
    names = list(dict.fromkeys(row["circuit"] for row in rows))
    at_depth: dict[int, list[str]] = {}
    for name in names:
        points = [(row["value"], row[key]) for row in rows if row["circuit"] == name]
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, lw=1.5, label=name)
        at_depth.setdefault(points[0][1], []).append(name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10)
    axes.grid(alpha=0.3)
    top = max(row[key] for row in rows)
    if key == "depth":
        for depth, some in at_depth.items():
            end = max(row["value"] for row in rows if row["circuit"] in some)
            axes.annotate(
                ", ".join(some), (end, depth), (7, 0), textcoords="offset points", fontsize=8,
                va="center",
            )  # fmt: skip
        values = [row["value"] for row in rows]
        axes.set_xlim(min(values) * 0.85, max(values) * 3)
        axes.set_yticks(list(at_depth), [str(depth) for depth in at_depth])
        axes.minorticks_off()
        axes.set_ylim(0.8, top * 1.8)
    else:
        axes.set_ylim(top=top * 40)  # room for the legend
