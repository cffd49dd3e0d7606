"""An undirected graph in compressed sparse rows: what walks and samplers read.

Legend: V nodes, M undirected edges (each stands in two rows).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

MOST_NODES = 2**31 - 1


@dataclass(frozen=True)
class Graph:
    """Neighbours of every node, sorted, without self loops or repeats.

    Attributes:
        starts: (V+1,) int64, where each node's row begins.
        neighbours: (2 M,) int32, the rows behind one another.
    """

    starts: NDArray[np.int64]
    neighbours: NDArray[np.int32]

    @property
    def nodes(self) -> int:
        """V."""
        return len(self.starts) - 1

    @property
    def edges(self) -> int:
        """M."""
        return len(self.neighbours) // 2

    def degrees(self) -> NDArray[np.int64]:
        """(V,) neighbours of each node."""
        return np.diff(self.starts)

    def of(self, node: int) -> NDArray[np.int32]:
        """The neighbours of one node."""
        return self.neighbours[self.starts[node] : self.starts[node + 1]]

    def has_edges(self, pairs: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each of `pairs` (P, 2) is an edge."""
        return _has_edges(self.starts, self.neighbours, np.ascontiguousarray(pairs, np.int32))

    def within(self, members: NDArray[np.bool_]) -> "Graph":
        """The edges both of whose ends are members (V,); nodes keep their numbers."""
        rows = np.repeat(members, self.degrees())
        kept = rows & members[self.neighbours]
        starts = np.concatenate([[0], np.cumsum(kept)])[self.starts]
        return Graph(starts.astype(np.int64), self.neighbours[kept])

    def shuffled(self, seed: int, swaps_per_edge: int = 10) -> "Graph":
        """A graph with the same degrees and other edges: pairs of edges exchange their ends again
        and again, where that gives no repeat and no self loop (Maslov and Sneppen 2002)."""
        pairs = self.pairs()
        known = {(int(a) << 32) | int(b) for a, b in pairs}
        generator = np.random.default_rng(seed)
        for _ in range(swaps_per_edge):
            order = generator.permutation(len(pairs))
            turned = generator.random(len(pairs)) < 0.5
            for i, j in zip(order[0::2], order[1::2], strict=False):
                (a, b), (c, d) = pairs[i].tolist(), pairs[j].tolist()
                if turned[i]:
                    c, d = d, c
                if len({a, b, c, d}) < 4:
                    continue
                first, second = (min(a, d), max(a, d)), (min(c, b), max(c, b))
                keys = [(low << 32) | high for low, high in (first, second)]
                if known.isdisjoint(keys):
                    known -= {(int(x) << 32) | int(y) for x, y in (pairs[i], pairs[j])}
                    known.update(keys)
                    pairs[i], pairs[j] = first, second
        return build_graph(pairs, self.nodes)[0]

    def pairs(self) -> NDArray[np.int32]:
        """(M, 2) every edge once, the smaller node first, in order."""
        rows = np.repeat(np.arange(self.nodes, dtype=np.int32), self.degrees())
        once = rows < self.neighbours
        return np.stack([rows[once], self.neighbours[once]], 1)


@dataclass(frozen=True)
class EdgeCounts:
    """What became of the pairs that a graph was built from.

    Attributes:
        pairs: pairs given.
        self_loops: of them, pairs of a node with itself: left out.
        repeats: of them, pairs that were there before, in either direction: left out.
    """

    pairs: int
    self_loops: int
    repeats: int


def build_graph(pairs: NDArray[np.integer], nodes: int) -> tuple[Graph, EdgeCounts]:
    """A graph of V = `nodes` from pairs of nodes in any order and direction.

    Linear in time; beside the result it needs room for one unsorted copy of it.

    Args:
        pairs: (P, 2) node numbers below `nodes`.

    Raises:
        ValueError: a number outside 0 ... V-1, or more nodes than int32 counts.
    """
    if nodes > MOST_NODES:
        raise ValueError(f"A graph of {nodes:,} nodes is beyond the {MOST_NODES:,} of 32 bits.")
    pairs = np.asarray(pairs).reshape(-1, 2)
    if len(pairs) and (pairs.min() < 0 or pairs.max() >= nodes):
        raise ValueError(f"Node numbers must lie in 0 ... {nodes - 1}.")
    pairs = np.ascontiguousarray(pairs, np.int32)
    starts, neighbours = _rows(pairs, nodes)
    # A second pass over the rows of the transposed graph, which is the same graph, sorts each row:
    # rows are met in rising order, so each of them comes to its neighbours in rising order.
    neighbours = _transposed(starts, neighbours)
    self_loops = int((pairs[:, 0] == pairs[:, 1]).sum())
    kept_starts, kept = _without_repeats(starts, neighbours)
    repeats = len(pairs) - self_loops - len(kept) // 2
    return Graph(kept_starts, kept), EdgeCounts(len(pairs), self_loops, repeats)


@njit(cache=True, nogil=True)
def _rows(pairs, nodes):
    """(starts, neighbours) of both directions, rows not sorted, self loops left out."""
    starts = np.zeros(nodes + 1, np.int64)
    for i in range(len(pairs)):
        if pairs[i, 0] != pairs[i, 1]:
            starts[pairs[i, 0] + 1] += 1
            starts[pairs[i, 1] + 1] += 1
    for v in range(nodes):
        starts[v + 1] += starts[v]
    at = starts[:-1].copy()
    neighbours = np.empty(starts[nodes], np.int32)
    for i in range(len(pairs)):
        a, b = pairs[i, 0], pairs[i, 1]
        if a != b:
            neighbours[at[a]] = b
            at[a] += 1
            neighbours[at[b]] = a
            at[b] += 1
    return starts, neighbours


@njit(cache=True, nogil=True)
def _transposed(starts, neighbours):
    at = starts[:-1].copy()
    out = np.empty_like(neighbours)
    for v in range(len(starts) - 1):
        for k in range(starts[v], starts[v + 1]):
            w = neighbours[k]
            out[at[w]] = v
            at[w] += 1
    return out


@njit(cache=True, nogil=True)
def _without_repeats(starts, neighbours):
    """In place: (starts, neighbours) of sorted rows without repeats."""
    kept_starts = np.zeros_like(starts)
    to = 0
    for v in range(len(starts) - 1):
        before = np.int32(-1)
        for k in range(starts[v], starts[v + 1]):
            w = neighbours[k]
            if w != before:
                neighbours[to] = w
                to += 1
            before = w
        kept_starts[v + 1] = to
    return kept_starts, neighbours[:to].copy()


@njit(cache=True, nogil=True, inline="always")
def adjacent(starts, neighbours, a, b):
    """Whether b is a neighbour of a, by bisection in the shorter of their two rows."""
    if starts[a + 1] - starts[a] > starts[b + 1] - starts[b]:
        a, b = b, a
    low, high = starts[a], starts[a + 1]
    while low < high:
        middle = (low + high) >> 1
        if neighbours[middle] < b:
            low = middle + 1
        else:
            high = middle
    return low < starts[a + 1] and neighbours[low] == b


@njit(cache=True, nogil=True)
def _has_edges(starts, neighbours, pairs):
    found = np.empty(len(pairs), np.bool_)
    for i in range(len(pairs)):
        found[i] = adjacent(starts, neighbours, pairs[i, 0], pairs[i, 1])
    return found
