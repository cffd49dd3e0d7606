"""The sparse rows against networkx."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcframework.data.graphs.csr import build_graph


def test_self_loops_and_repeats_are_counted_and_left_out():
    graph, counts = build_graph(np.array([[2, 0], [0, 2], [1, 1], [0, 1], [2, 0]]), 4)
    assert (counts.pairs, counts.self_loops, counts.repeats) == (5, 1, 2)
    assert graph.starts.tolist() == [0, 2, 3, 4, 4]
    assert graph.neighbours.tolist() == [1, 2, 0, 0]
    assert graph.pairs().tolist() == [[0, 1], [0, 2]]
    assert (graph.nodes, graph.edges) == (4, 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=60))
def test_equals_networkx(edges):
    graph, _ = build_graph(np.array(edges, dtype=np.int64).reshape(-1, 2), 12)
    expected = nx.Graph(edges)
    expected.add_nodes_from(range(12))
    expected.remove_edges_from(nx.selfloop_edges(expected))
    for node in range(12):
        assert graph.of(node).tolist() == sorted(expected[node])
    every = np.array([(a, b) for a in range(12) for b in range(12)])
    assert graph.has_edges(every).tolist() == [expected.has_edge(*pair) for pair in every]


def test_an_empty_graph_has_rows():
    graph, counts = build_graph(np.zeros((0, 2), np.int64), 3)
    assert graph.degrees().tolist() == [0, 0, 0]
    assert counts.pairs == 0


@pytest.mark.parametrize("pair", [[-1, 0], [0, 3]])
def test_numbers_outside_the_graph_are_refused(pair):
    with pytest.raises(ValueError, match=r"must lie in 0 \.\.\. 2"):
        build_graph(np.array([pair]), 3)
