"""How a walk becomes one sequence of tokens, and the ids of the tokens that mark its structure.

    <bon> residues <eon> <edge> <bon> residues <eon> <edge> ... <bon> residues <eon>

`<no_edge>` stands in place of `<edge>` in negative walks. The ids lie behind the 33 of ESM-2's
alphabet, in rows that LC-PLM's embedding has anyway. The paper (arXiv 2411.08909) names EDGE and
NO_EDGE; begin and end of a node are our reading of its figure.

Legend: W walks, L nodes of the longest, K nodes of all walks, T tokens.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcframework.data.alphabet import VOCAB_SIZE
from lcframework.data.graphs.walks import NO_NODE
from lcframework.data.ragged import range_indices

BON_ID, EON_ID, EDGE_ID, NO_EDGE_ID = range(VOCAB_SIZE, VOCAB_SIZE + 4)
GRAPH_TOKENS = {"<bon>": BON_ID, "<eon>": EON_ID, "<edge>": EDGE_ID, "<no_edge>": NO_EDGE_ID}
GRAPH_VOCAB_SIZE = VOCAB_SIZE + len(GRAPH_TOKENS)


def walk_tokens(walks: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(W,) tokens of each walk; `lengths` (V,) residues of each node."""
    real = walks != NO_NODE
    nodes = real.sum(1)
    return np.where(real, lengths[walks], 0).sum(1) + 3 * nodes - 1


def cut_walks(
    walks: NDArray[np.int32], lengths: NDArray[np.int64], max_tokens: int
) -> tuple[NDArray[np.int32], int]:
    """Walks without the nodes that a budget has no room for, and how many were cut.

    A walk ends before the first node that does not fit whole; its first node always stays.
    """
    real = walks != NO_NODE
    used = np.cumsum(np.where(real, lengths[walks] + 3, 0), 1) - 1
    kept = real & (used <= max_tokens)
    kept[:, 0] = real[:, 0]
    return np.where(kept, walks, np.int32(NO_NODE)), int((real & ~kept).any(1).sum())


@dataclass(frozen=True)
class LaidOut:
    """Walks as tokens behind one another.

    Attributes:
        tokens: (T,) uint8.
        starts: (W,) int64 first token of each walk.
        node_starts: (K,) int64 where each node's `<bon>` stands.
        nodes: (K,) int32 the nodes, walk after walk.
    """

    tokens: NDArray[np.uint8]
    starts: NDArray[np.int64]
    node_starts: NDArray[np.int64]
    nodes: NDArray[np.int32]


def lay_out(
    walks: NDArray[np.int32],
    negative: NDArray[np.bool_],
    residues: NDArray[np.uint8],
    starts: NDArray[np.int64],
) -> LaidOut:
    """Tokens of whole walks.

    Args:
        walks: (W, L) nodes, `NO_NODE` behind the end; each walk has at least one.
        negative: (W,) whether no two nodes that follow each other are neighbours.
        residues: token ids of all nodes' residues behind one another.
        starts: (V+1,) where each node's residues begin.
    """
    real = walks != NO_NODE
    nodes = walks[real]
    per_walk = real.sum(1)
    walk_ends = np.cumsum(per_walk)
    is_last = np.zeros(len(nodes), np.bool_)
    is_last[walk_ends - 1] = True
    lengths = starts[nodes + 1] - starts[nodes]
    pieces = lengths + np.where(is_last, 2, 3)
    ends = np.cumsum(pieces)
    node_starts = ends - pieces
    tokens = np.empty(int(ends[-1]), np.uint8)
    tokens[node_starts] = BON_ID
    tokens[range_indices(node_starts + 1, lengths)] = residues[
        range_indices(starts[nodes], lengths)
    ]
    tokens[node_starts + 1 + lengths] = EON_ID
    joins = np.where(np.repeat(negative, per_walk), NO_EDGE_ID, EDGE_ID)
    tokens[(ends - 1)[~is_last]] = joins[~is_last]
    return LaidOut(tokens, node_starts[walk_ends - per_walk], node_starts, nodes)
