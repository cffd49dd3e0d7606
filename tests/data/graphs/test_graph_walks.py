"""Walks against the exact transition probabilities of node2vec, and that they depend on nothing but
seed, node and index."""

import numpy as np
import pytest

from lcframework.data.graphs.csr import build_graph
from lcframework.data.graphs.walks import NO_NODE, negative_walks, random_walks

EDGES = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (3, 5), (4, 5), (5, 6), (1, 6), (2, 7)]
GRAPH, _ = build_graph(np.array(EDGES), 9)  # node 8 has no neighbour
LINKS = {frozenset(edge) for edge in EDGES}
MANY = 40_000


def fits(counts, shares):
    """Whether counts may come from shares: chi-square below its quantile for 4 sigma (Wilson and
    Hilferty 1931)."""
    expected = np.asarray(shares) / np.sum(shares) * np.sum(counts)
    statistic = ((np.asarray(counts) - expected) ** 2 / expected).sum()
    free = len(counts) - 1
    return statistic < free * (1 - 2 / (9 * free) + 4 * (2 / (9 * free)) ** 0.5) ** 3


def exact(before, here, p, q):
    """P(next | before, here) by the definition, as a dictionary."""
    weights = {}
    for there in GRAPH.of(here).tolist():
        near = frozenset((before, there)) in LINKS
        weights[there] = 1 / p if there == before else 1.0 if near else 1 / q
    total = sum(weights.values())
    return {there: weight / total for there, weight in weights.items()}


def many_walks(length, **settings):
    return random_walks(GRAPH, np.zeros(MANY, np.int64), np.arange(MANY), length, **settings)


@pytest.mark.parametrize(
    ("p", "q"), [(1, 1), (0.5, 2), (4, 0.25), (0.1, 0.1), (10, 10), (1, 2), (2, 1)]
)
def test_second_steps_follow_the_definition(p, q):
    walks = many_walks(3, p=p, q=q, seed=3)
    for here in GRAPH.of(0).tolist():
        found = walks[walks[:, 1] == here, 2]
        expected = exact(0, here, p, q)
        counts = [int((found == there).sum()) for there in expected]
        assert sum(counts) == len(found)
        assert fits(counts, list(expected.values()))


def test_first_steps_and_late_steps_follow_the_definition():
    walks = many_walks(7, p=0.5, q=2.0, seed=5)
    first = [int((walks[:, 1] == there).sum()) for there in GRAPH.of(0).tolist()]
    assert fits(first, [1, 1])
    late = walks[(walks[:, 4] == 3) & (walks[:, 5] == 4), 6]
    expected = exact(3, 4, 0.5, 2.0)
    counts = [int((late == there).sum()) for there in expected]
    assert fits(counts, list(expected.values()))


def test_every_step_is_an_edge_and_an_isolated_node_stays_alone():
    nodes = np.arange(9)
    walks = random_walks(GRAPH, nodes, np.zeros(9, np.int64), 12, p=0.5, q=2.0)
    assert walks[8].tolist() == [8] + [NO_NODE] * 11
    pairs = np.stack([walks[:8, :-1].ravel(), walks[:8, 1:].ravel()], 1)
    assert GRAPH.has_edges(pairs).all()


@pytest.mark.parametrize("draw", [random_walks, negative_walks])
def test_a_walk_depends_on_seed_node_and_index_alone(draw):
    nodes, indices = np.repeat(np.arange(8), 5), np.tile(np.arange(5), 8)
    whole = draw(GRAPH, nodes, indices, 6, seed=7)
    order = np.random.default_rng(0).permutation(40)
    assert (draw(GRAPH, nodes[order], indices[order], 6, seed=7) == whole[order]).all()
    assert (draw(GRAPH, nodes, indices, 6, seed=8) != whole).any()
    # A longer walk begins as the shorter one.
    assert (draw(GRAPH, nodes, indices, 9, seed=7)[:, :6] == whole).all()
    assert len({tuple(walk) for walk in whole[:5].tolist()}) > 1


def test_negative_walks_join_strangers_drawn_by_degree():
    walks = negative_walks(GRAPH, np.full(MANY, 6), np.arange(MANY), 2)
    strangers = [
        node for node in range(8) if node != 6 and not GRAPH.has_edges(np.array([[6, node]]))[0]
    ]
    counts = [int((walks[:, 1] == node).sum()) for node in strangers]
    assert sum(counts) == MANY
    assert fits(counts, GRAPH.degrees()[strangers])
    assert not fits(counts, np.ones(len(strangers)))


def test_a_negative_walk_that_finds_no_stranger_ends():
    complete, _ = build_graph(np.array([[0, 1], [0, 2], [1, 2]]), 3)
    walk = negative_walks(complete, np.array([0]), np.array([0]), 3)
    assert walk.tolist() == [[0, NO_NODE, NO_NODE]]


def test_impossible_settings_are_refused():
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="p and q must be above 0"):
        random_walks(GRAPH, one, one, 3, p=0.0)
    with pytest.raises(ValueError, match="at least 1 node"):
        random_walks(GRAPH, one, one, 0)
    with pytest.raises(ValueError, match=r"0 \.\.\. 8"):
        random_walks(GRAPH, one + 9, one, 3)
    empty, _ = build_graph(np.zeros((0, 2), np.int64), 2)
    with pytest.raises(ValueError, match="without edges"):
        negative_walks(empty, one, one, 3)
