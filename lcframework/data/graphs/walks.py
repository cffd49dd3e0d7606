"""Random walks over a graph: node2vec (Grover and Leskovec 2016, arXiv 1607.00653), first-order
walks as its special case, and negative walks over pairs that are no edges.

A step from v, come from t, goes to a neighbour x of v with a probability proportional to 1/p where
x = t, 1 where x is a neighbour of t, and 1/q else. It is drawn by rejection, which needs no table
per edge, whose size (the sum of degrees over edges) is what makes large graphs impossible
elsewhere. The way back has a bar of its own where it is the likeliest (as in Yang et al. 2019,
KnightKing), and most draws are decided without looking whether t and x are neighbours.

Every walk has a random stream of its own, a function of (seed, node, index of the walk): walks are
the same in every order, on every number of workers, and on every machine.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lcframework.data.graphs.csr import Graph, adjacent

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
NO_NODE = -1
"""Behind the end of a walk that stops early."""
NEGATIVE_TRIES = 1000


def random_walks(
    graph: Graph,
    nodes: NDArray[np.integer],
    indices: NDArray[np.integer],
    length: int,
    p: float = 1.0,
    q: float = 1.0,
    seed: int = 0,
) -> NDArray[np.int32]:
    """Walks along edges.

    Args:
        graph: V nodes.
        nodes: (W,) where each walk begins.
        indices: (W,) which of a node's walks it is.
        length: L, nodes of a walk, the first included.
        p: return parameter, above 0; large values keep a walk from turning back.
        q: in-out parameter, above 0; below 1 a walk goes outward, above 1 it stays near.
        seed: of all walks.

    Returns:
        (W, L) nodes; an isolated node's walk is the node alone, with `NO_NODE` behind it.

    Raises:
        ValueError: p or q not above 0, length below 1, or a node that is not in the graph.
    """
    starts = _checked(graph, nodes, length)
    if not (p > 0 and q > 0):
        raise ValueError(f"p and q must be above 0, got p={p} and q={q}.")
    keys = walk_keys(seed, starts, indices)
    out = np.full((len(starts), length), NO_NODE, np.int32)
    _walk_all(graph.starts, graph.neighbours, starts, keys, 1.0 / p, 1.0 / q, out)
    return out


def negative_walks(
    graph: Graph,
    nodes: NDArray[np.integer],
    indices: NDArray[np.integer],
    length: int,
    seed: int = 0,
) -> NDArray[np.int32]:
    """Walks in which no two nodes that follow each other are neighbours.

    Each next node is drawn in proportion to its degree, as the neighbours of a walk along edges are
    in the long run: what follows what must not be told by degree alone. Arguments and result as
    `random_walks`. A walk ends early where `NEGATIVE_TRIES` draws gave no stranger.

    Raises:
        ValueError: length below 1, a node that is not in the graph, or a graph without edges.
    """
    starts = _checked(graph, nodes, length)
    if graph.edges == 0:
        raise ValueError("A graph without edges has no degrees to draw negative walks by.")
    keys = walk_keys(seed, starts, indices) ^ GOLDEN
    out = np.full((len(starts), length), NO_NODE, np.int32)
    _strangers(graph.starts, graph.neighbours, starts, keys, out)
    return out


def walk_keys(
    seed: int, nodes: NDArray[np.integer], indices: NDArray[np.integer]
) -> NDArray[np.uint64]:
    """(W,) the random stream of each walk."""
    with np.errstate(over="ignore"):
        key = _mixed(np.uint64(seed & (2**64 - 1)) + GOLDEN)
        key = _mixed(key + (np.asarray(nodes).astype(np.uint64) + np.uint64(1)) * GOLDEN)
        return _mixed(key + (np.asarray(indices).astype(np.uint64) + np.uint64(1)) * GOLDEN)


def _mixed(value):
    value = (value ^ (value >> np.uint64(30))) * MIX_1
    value = (value ^ (value >> np.uint64(27))) * MIX_2
    return value ^ (value >> np.uint64(31))


def _checked(graph: Graph, nodes: NDArray[np.integer], length: int) -> NDArray[np.int32]:
    nodes = np.asarray(nodes)
    if length < 1:
        raise ValueError(f"A walk has at least 1 node, got length={length}.")
    if len(nodes) and (nodes.min() < 0 or nodes.max() >= graph.nodes):
        raise ValueError(f"Walks must begin at nodes 0 ... {graph.nodes - 1}.")
    return np.ascontiguousarray(nodes, np.int32)


@njit(cache=True, nogil=True, inline="always")
def _next(state):
    """(next state, 64 random bits): splitmix64."""
    state = state + GOLDEN
    z = (state ^ (state >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return state, z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def _index(bits, count):
    """A number below `count`, which may exceed 32 bits, from 53 of the bits."""
    return np.int64(np.float64(bits >> np.uint64(11)) * 2.0**-53 * count)


@njit(cache=True, nogil=True)
def _walk_all(starts, neighbours, nodes, keys, back, out, walks):
    """Fill `walks`; `back` is 1/p, `out` is 1/q."""
    length = walks.shape[1]
    first_order = back == 1.0 and out == 1.0
    least, most = min(1.0, out), max(1.0, out)
    extra = max(back - most, 0.0)
    for w in range(len(nodes)):
        state = keys[w]
        here = np.int64(nodes[w])
        walks[w, 0] = here
        before = np.int64(-1)
        for step in range(1, length):
            low = starts[here]
            degree = starts[here + 1] - low
            if degree == 0:
                break
            if before < 0 or first_order:
                state, bits = _next(state)
                there = np.int64(neighbours[low + _index(bits, degree)])
            else:
                state, there = _second_order(
                    starts, neighbours, state, before, low, degree, back, out, least, most, extra
                )
            before = here
            here = there
            walks[w, step] = here


@njit(cache=True, nogil=True, inline="always")
def _second_order(
    starts, neighbours, state, before, low, degree, back, out, least, most, extra
):  # fmt: skip
    """(random state, next node). A point is drawn evenly over bars of height `most`, one for each
    neighbour, and what the way back is higher than that: the neighbour whose bar it hits is taken
    where the point lies below its weight."""
    area = degree * most
    while True:
        state, bits = _next(state)
        point = np.float64(bits >> np.uint64(11)) * 2.0**-53 * (area + extra)
        if point >= area:
            return state, before
        index = min(np.int64(point / most), degree - 1)
        height = point - index * most
        there = np.int64(neighbours[low + index])
        if there == before:
            taken = height < back
        elif height < least:
            taken = True
        elif adjacent(starts, neighbours, before, there):
            taken = height < 1.0
        else:
            taken = height < out
        if taken:
            return state, there


@njit(cache=True, nogil=True)
def _strangers(starts, neighbours, nodes, keys, walks):
    length = walks.shape[1]
    for w in range(len(nodes)):
        state = keys[w]
        here = np.int64(nodes[w])
        walks[w, 0] = here
        for step in range(1, length):
            found = False
            for _ in range(NEGATIVE_TRIES):
                state, bits = _next(state)
                # An end of an edge drawn evenly is a node drawn by degree.
                there = np.int64(neighbours[_index(bits, len(neighbours))])
                if there != here and not adjacent(starts, neighbours, here, there):
                    found = True
                    break
            if not found:
                break
            here = there
            walks[w, step] = here
