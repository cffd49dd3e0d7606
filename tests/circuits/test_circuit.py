"""The gate model: folding, sharing, layers, the graph, and the evaluator against gate by gate."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.circuits.threshold.builder import Builder
from lcframework.circuits.threshold.circuit import FALSE, TRUE, from_graph
from lcframework.circuits.threshold.evaluate import Evaluator, bit_sliced_sum, non_adjacent_form
from lcframework.errors import CircuitError

WEIGHTS = st.integers(-(2**70), 2**70) | st.integers(-3, 3)


@st.composite
def circuits(draw):
    """A random circuit with up to 5 inputs and 12 gates, weights beyond 64 bits included."""
    builder = Builder()
    wires = [builder.input(f"x{i}") for i in range(draw(st.integers(1, 5)))]
    for _ in range(draw(st.integers(1, 12))):
        chosen = draw(st.lists(st.sampled_from(wires), min_size=1, max_size=6))
        pairs = [(wire, draw(WEIGHTS)) for wire in chosen]
        bound = sum(abs(weight) for _, weight in pairs)
        wires.append(builder.gate(pairs, draw(st.integers(-bound, bound))))
    outputs = draw(st.lists(st.sampled_from([*wires, FALSE, TRUE]), min_size=1, max_size=4))
    return builder.finish([(f"o{i}", wire) for i, wire in enumerate(outputs)])


def every_input(circuit):
    n = len(circuit.inputs)
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)


@settings(deadline=None, max_examples=60)
@given(circuits())
def test_evaluator_equals_gate_by_gate(circuit):
    values = every_input(circuit)
    for row, outputs in zip(values, Evaluator(circuit)(values), strict=True):
        assert list(circuit.evaluate_one(row).values()) == outputs.tolist()


@settings(deadline=None, max_examples=40)
@given(circuits())
def test_graph_keeps_depth_and_function(circuit):
    graph = circuit.graph()
    assert nx.is_directed_acyclic_graph(graph)
    assert nx.dag_longest_path_length(graph, weight=None, default_weight=1) >= circuit.depth
    back = from_graph(graph)
    assert (back.size, back.depth) == (circuit.size, circuit.depth)
    values = every_input(circuit)
    assert (Evaluator(back)(values) == Evaluator(circuit)(values)).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 2**64 - 1)), min_size=1, max_size=30))
def test_bit_sliced_sum_is_the_sum(bits):
    columns = {}
    for k, word in bits:
        columns.setdefault(k, []).append(np.array([[word]], dtype=np.uint64))
    slices = bit_sliced_sum(columns)
    for lane in range(64):
        want = sum((word >> lane & 1) << k for k, word in bits)
        assert want == sum((int(p[0, 0]) >> lane & 1) << bit for bit, p in enumerate(slices))


@given(st.integers(-(2**90), 2**90))
def test_non_adjacent_form_is_the_weight_with_few_terms(weight):
    terms = non_adjacent_form(weight)
    assert sum(sign * 2**k for k, sign in terms) == weight
    places = [k for k, _ in terms]
    assert all(b - a >= 2 for a, b in zip(places, places[1:], strict=False))


def test_batches_of_any_size_and_outputs_that_are_inputs_or_constants():
    builder = Builder()
    x, y = builder.input("x"), builder.input("y")
    both = builder.all_of([x, y])
    circuit = builder.finish([("and", both), ("x", x), ("true", TRUE), ("false", FALSE)])
    rng = np.random.default_rng(0)
    for samples in (0, 1, 63, 64, 65, 200):
        values = rng.random((samples, 2)) < 0.5
        got = Evaluator(circuit)(values, block=64)
        assert got.shape == (samples, 4)
        assert (got[:, 0] == values.all(1)).all() and (got[:, 1] == values[:, 0]).all()
        assert got[:, 2].all() and not got[:, 3].any()


def test_constants_aliases_and_equal_gates_cost_nothing():
    builder = Builder()
    x, y = builder.input("x"), builder.input("y")
    assert builder.all_of([x, TRUE]) == x
    assert builder.all_of([x, FALSE]) == FALSE
    assert builder.all_of([x], [x]) == FALSE
    assert builder.any_of([x, TRUE]) == TRUE
    assert builder.any_of([x], [FALSE]) == TRUE
    assert builder.gate([(x, 2), (y, 2)], 3) == builder.gate([(y, 1), (x, 1)], 2)
    circuit = builder.finish([("o", builder.not_(x))])
    assert (circuit.size, circuit.depth, circuit.wire_count) == (1, 1, 1)  # the AND is not needed


def test_layers_and_counts():
    builder = Builder()
    a, b, c = (builder.input(name) for name in "abc")
    ab = builder.all_of([a, b])
    circuit = builder.finish([("o", builder.gate([(ab, 5), (c, -3)], 2))])
    assert circuit.layers == [0, 0, 0, 1, 2]
    assert (circuit.depth, circuit.size, circuit.wire_count) == (2, 2, 4)
    assert circuit.weight_bits == 3
    assert nx.dag_longest_path_length(circuit.graph(), weight=None, default_weight=1) == 2


def test_too_many_gates_are_refused_with_the_number():
    builder = Builder(max_gates=3)
    wires = [builder.input(f"x{i}") for i in range(6)]
    for i in range(3):
        builder.all_of(wires[i : i + 2])
    with pytest.raises(CircuitError, match="more than 3 gates"):
        builder.all_of(wires[4:])


def test_wrong_number_of_inputs_is_refused():
    builder = Builder()
    circuit = builder.finish([("x", builder.input("x"))])
    with pytest.raises(CircuitError, match="1 inputs, 2 values"):
        circuit.evaluate_one([True, False])
    with pytest.raises(ValueError, match="samples, 1"):
        Evaluator(circuit)(np.zeros((3, 2), dtype=bool))


def test_a_circular_graph_is_refused_with_the_circle():
    graph = nx.DiGraph(outputs=[("o", "b")])
    graph.add_node("x", kind="input", name="x")
    graph.add_node("a", kind="gate", threshold=1)
    graph.add_node("b", kind="gate", threshold=1)
    graph.add_weighted_edges_from([("x", "a", 1), ("a", "b", 1), ("b", "a", 1)])
    with pytest.raises(CircuitError, match="a -> b -> a|b -> a -> b"):
        from_graph(graph)


def test_a_node_without_threshold_is_refused_by_name():
    graph = nx.DiGraph(outputs=[("o", "g")])
    graph.add_node("g")
    with pytest.raises(CircuitError, match="'g'"):
        from_graph(graph)
