"""Pictures of circuits: inputs on the left, one column per layer, outputs named on the right."""

from pathlib import Path

from lcframework.circuits.threshold.circuit import FALSE, TRUE, Circuit
from lcframework.errors import CircuitError
from lcframework.files import save_figure

MAX_DRAWN_GATES = 4000
LABELLED = 40
"""Up to so many gates, the thresholds are written into the picture."""
WEIGHTS_SHOWN = 60
"""Up to so many wires, so are the weights other than 1 and -1."""
COLOURS = {"input": "#4477aa", "and": "#228833", "or": "#ee6677", "threshold": "#ccbb44"}
NAMES = {"input": "input", "and": "AND (negations allowed)", "or": "OR", "threshold": "threshold"}
MINUS = "#bb3333"


def gate_kind(weights: tuple[int, ...], threshold: int) -> str:
    """AND, OR, or a proper threshold gate; negated inputs do not change the name."""
    total = sum(weight for weight in weights if weight > 0)
    lowest = sum(weight for weight in weights if weight < 0)
    smallest = min(abs(weight) for weight in weights)
    if total - smallest < threshold:
        return "and"
    return "or" if lowest + smallest >= threshold else "threshold"


def check_drawable(path: Path) -> None:
    """Refuse a file that is no PNG before anything is built.

    Raises:
        CircuitError: another suffix, or a folder.
    """
    if path.suffix.lower() != ".png" or path.is_dir():
        raise CircuitError(f"{path}: pictures are written as PNG; give a file that ends in .png.")


def draw(circuit: Circuit, path: Path, title: str) -> Path:
    """Save a picture of a circuit as PNG.

    Args:
        circuit: at most `MAX_DRAWN_GATES` gates.
        path: the file; replaced atomically.
        title: the first line above the picture; sizes follow below it.

    Raises:
        CircuitError: too many gates for a picture.
    """
    if circuit.size > MAX_DRAWN_GATES:
        raise CircuitError(
            f"the circuit has {circuit.size:,} gates, a picture shows up to {MAX_DRAWN_GATES:,}. "
            "Draw fewer bits or numbers."
        )
    from matplotlib.figure import Figure

    places = _places(circuit)
    tallest = max(len(column) for column in _columns(circuit))
    labelled = circuit.size <= LABELLED
    width = min(16.0, max(9.0, 2.1 * (circuit.depth + 1) + 2.5))
    figure = Figure(figsize=(width, min(10.0, max(4.5, 0.34 * tallest + 2))), layout="constrained")
    axes = figure.add_subplot()
    _edges(axes, circuit, places)
    _nodes(axes, circuit, places, labelled)
    _labels(axes, circuit, places)
    axes.set_title(
        f"{title}\ndepth {circuit.depth}, {circuit.size:,} gates, {circuit.wire_count:,} wires, "
        f"weights of up to {circuit.weight_bits} bits",
        fontsize=11,
    )
    axes.set_xticks(range(circuit.depth + 1), ["inputs", *map(str, range(1, circuit.depth + 1))])
    axes.set_xlabel("layer")
    axes.set_yticks([])
    axes.set_xlim(-0.75, circuit.depth + 0.9)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    _legend(axes, circuit)
    return save_figure(figure, path, dpi=130)


def _columns(circuit: Circuit) -> list[list[int]]:
    columns: list[list[int]] = [[] for _ in range(max(circuit.layers, default=0) + 1)]
    for wire, layer in enumerate(circuit.layers):
        columns[layer].append(wire)
    return columns


def _places(circuit: Circuit) -> dict[int, tuple[float, float]]:
    """Layer across; down, gates near the mean height of what they read."""
    heights: dict[int, float] = {}
    places = {}
    driven = {wire: rank for rank, (_, wire) in reversed(list(enumerate(circuit.outputs)))}

    def order(wire: int) -> tuple[float, int]:
        if circuit.layers[wire] == circuit.depth and wire in driven:
            return driven[wire], wire
        sources = circuit.forms[circuit.gates[wire - len(circuit.inputs)][0]].wires
        return sum(heights[source] for source in sources) / len(sources), wire

    for layer, column in enumerate(_columns(circuit)):
        for rank, wire in enumerate(sorted(column, key=order) if layer else column):
            heights[wire] = (rank + 0.5) / len(column)
            places[wire] = (float(layer), 1 - heights[wire])
    return places


def _edges(axes, circuit: Circuit, places) -> None:
    from matplotlib.collections import LineCollection

    lines: dict[tuple[int, bool], list] = {}
    for gate, (form, _) in enumerate(circuit.gates):
        wire = len(circuit.inputs) + gate
        one = circuit.forms[form]
        for rank, (source, weight) in enumerate(zip(one.wires, one.weights, strict=True)):
            ends = [places[source], places[wire]]
            lines.setdefault((circuit.layers[wire], weight > 0), []).append(ends)
            if circuit.wire_count <= WEIGHTS_SHOWN and abs(weight) != 1:
                (x0, y0), (x1, y1) = ends
                along = 0.86 - 0.09 * (rank % 4)  # apart, and nearer to the gate that has them
                axes.text(
                    x0 + along * (x1 - x0),
                    y0 + along * (y1 - y0),
                    weight,
                    fontsize=7,
                    color="#333333" if weight > 0 else MINUS,
                    ha="center",
                    va="center",
                    zorder=2,
                    bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"},
                )
    for (_, positive), some in lines.items():
        # A layer with many wires is drawn fainter, one with few stays visible.
        alpha = min(0.7, max(0.02, 90 / len(some)))
        colour = "#777777" if positive else MINUS
        axes.add_collection(
            LineCollection(some, colors=colour, linewidths=0.7, alpha=alpha, zorder=1)
        )


def _nodes(axes, circuit: Circuit, places, labelled: bool) -> None:
    kinds: dict[str, list[int]] = {}
    for wire in range(len(circuit.inputs)):
        kinds.setdefault("input", []).append(wire)
    for gate, (form, threshold) in enumerate(circuit.gates):
        wire = len(circuit.inputs) + gate
        kinds.setdefault(gate_kind(circuit.forms[form].weights, threshold), []).append(wire)
        if labelled:
            axes.text(*places[wire], threshold, fontsize=7, ha="center", va="center", zorder=4)
    size = 210 if labelled else max(6, min(60, 9000 / max(1, circuit.size)))
    for kind, wires in kinds.items():
        points = [places[wire] for wire in wires]
        axes.scatter(*zip(*points, strict=True), s=size, c=COLOURS[kind], zorder=3, linewidths=0)


def _labels(axes, circuit: Circuit, places) -> None:
    size = max(4, min(8, 240 / max(len(circuit.inputs), 1)))
    for wire, name in enumerate(circuit.inputs):
        x, y = places[wire]
        axes.text(x - 0.08, y, name, fontsize=size, ha="right", va="center")
    right = circuit.depth + 0.35
    for rank, (name, wire) in enumerate(circuit.outputs):
        y = 1 - (rank + 0.5) / len(circuit.outputs)
        if wire in (TRUE, FALSE):
            axes.text(right, y, f"{name} = {int(wire == TRUE)}", fontsize=8, va="center")
            continue
        axes.plot([places[wire][0], right - 0.03], [places[wire][1], y], color="#999999", lw=0.6,
                  ls=":", zorder=1)  # fmt: skip
        axes.text(right, y, name, fontsize=8, va="center", fontweight="bold")


def _legend(axes, circuit: Circuit) -> None:
    from matplotlib.lines import Line2D

    found = {gate_kind(circuit.forms[form].weights, t) for form, t in circuit.gates} | {"input"}
    marks = [
        Line2D([], [], marker="o", ls="", color=COLOURS[kind], label=NAMES[kind])
        for kind in COLOURS
        if kind in found
    ]
    marks.append(Line2D([], [], color="#777777", label="positive weight"))
    if any(weight < 0 for form in circuit.forms for weight in form.weights):
        marks.append(Line2D([], [], color=MINUS, label="negative weight"))
    axes.legend(
        handles=marks, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=6, fontsize=8,
        frameon=False,
    )  # fmt: skip
