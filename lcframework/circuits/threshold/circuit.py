"""A threshold circuit: named inputs, gates in topological order, named outputs.

Gates that differ only in their threshold share one linear form, so that a comparison with many
constants is stored, and evaluated, once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from lcframework.errors import CircuitError

FALSE, TRUE = -2, -1
"""The two constants, where a wire may be given: an output, never a gate's input."""


@dataclass(frozen=True)
class Form:
    """A linear form: integer `weights` of `wires`, in the order of the wires."""

    wires: tuple[int, ...]
    weights: tuple[int, ...]


@dataclass(frozen=True)
class Circuit:
    """An immutable circuit.

    Wires are numbered: inputs 0 .. n-1, then gates; gate g drives wire n + g.

    Attributes:
        inputs: names of the n inputs.
        forms: linear forms over wires.
        gates: (index of the form, threshold) of each gate; a form's wires are all driven by
            inputs or earlier gates.
        outputs: (name, wire) pairs; a wire may be an input or one of the constants.
    """

    inputs: tuple[str, ...]
    forms: tuple[Form, ...]
    gates: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[str, int], ...]

    @cached_property
    def layers(self) -> list[int]:
        """Layer of each wire: 0 for inputs, else one more than the highest layer a gate reads."""
        layers = [0] * len(self.inputs)
        of_form: dict[int, int] = {}
        for form, _ in self.gates:
            if form not in of_form:
                of_form[form] = 1 + max(layers[wire] for wire in self.forms[form].wires)
            layers.append(of_form[form])
        return layers

    @property
    def depth(self) -> int:
        """Gates on the longest path from an input to an output."""
        return max((self.layers[wire] for _, wire in self.outputs if wire >= 0), default=0)

    @property
    def size(self) -> int:
        """Number of gates."""
        return len(self.gates)

    @cached_property
    def wire_count(self) -> int:
        """Number of gate inputs, counted with every gate that reads them."""
        return sum(len(self.forms[form].wires) for form, _ in self.gates)

    @cached_property
    def weight_bits(self) -> int:
        """Bits of the largest weight or threshold."""
        weights = [weight for form in self.forms for weight in form.weights]
        weights += [threshold for _, threshold in self.gates]
        return max((abs(value).bit_length() for value in weights), default=0)

    def evaluate_one(self, values: Iterable[bool]) -> dict[str, bool]:
        """The outputs for one input, gate by gate with Python's integers: the reference.

        Args:
            values: a truth value for each input, in the order of `inputs`.
        """
        wires = [int(bool(value)) for value in values]
        if len(wires) != len(self.inputs):
            raise CircuitError(
                f"this circuit has {len(self.inputs)} inputs, {len(wires)} values were given. "
                "Give one truth value per input, in the order of circuit.inputs."
            )
        for form, threshold in self.gates:
            one = self.forms[form]
            total = sum(w * wires[i] for i, w in zip(one.wires, one.weights, strict=True))
            wires.append(int(total >= threshold))
        return {
            name: bool(wires[wire]) if wire >= 0 else wire == TRUE for name, wire in self.outputs
        }

    def graph(self) -> nx.DiGraph:
        """The circuit as a networkx graph.

        Returns:
            Nodes are wire numbers with `kind` ("input" or "gate"), `layer`, and `name` or
            `threshold`; an edge carries its `weight`. Outputs are in `graph["outputs"]`.
        """
        graph = nx.DiGraph(outputs=list(self.outputs))
        for wire, name in enumerate(self.inputs):
            graph.add_node(wire, kind="input", layer=0, name=name)
        for gate, (form, threshold) in enumerate(self.gates):
            wire = len(self.inputs) + gate
            graph.add_node(wire, kind="gate", layer=self.layers[wire], threshold=threshold)
            one = self.forms[form]
            graph.add_weighted_edges_from(
                (source, wire, weight)
                for source, weight in zip(one.wires, one.weights, strict=True)
            )
        return graph


def from_graph(graph: nx.DiGraph) -> Circuit:
    """A circuit from a networkx graph with the attributes that `Circuit.graph` writes.

    Raises:
        CircuitError: the graph has a cycle, or a node is no input and has no threshold.
    """
    try:
        order = list(nx.lexicographical_topological_sort(graph, key=str))
    except nx.NetworkXUnfeasible:
        cycle = [str(edge[0]) for edge in nx.find_cycle(graph)]
        raise CircuitError(
            f"the graph is circular: {' -> '.join([*cycle, cycle[0]])}. A circuit has no feedback; "
            "remove one of these edges."
        ) from None
    inputs = [node for node in order if graph.nodes[node].get("kind") == "input"]
    number = {node: wire for wire, node in enumerate(inputs)}
    forms: dict[Form, int] = {}
    gates = []
    for node in order:
        if node in number:
            continue
        if "threshold" not in graph.nodes[node]:
            raise CircuitError(
                f"node {node!r} is neither an input nor has a threshold. Set kind='input' and a "
                "name, or an integer threshold."
            )
        reads = sorted((number[s], w) for s, _, w in graph.in_edges(node, data="weight"))
        form = Form(tuple(wire for wire, _ in reads), tuple(int(weight) for _, weight in reads))
        gates.append((forms.setdefault(form, len(forms)), int(graph.nodes[node]["threshold"])))
        number[node] = len(number)
    outputs = tuple(
        (str(name), number[wire] if wire in number else int(wire))
        for name, wire in graph.graph.get("outputs", ())
    )
    names = tuple(str(graph.nodes[node]["name"]) for node in inputs)
    return Circuit(names, tuple(forms), tuple(gates), outputs)
