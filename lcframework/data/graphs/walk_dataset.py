"""From the numbers of some walks to a masked pack: a pure function of (epoch, numbers)."""

import functools
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lcframework.data.batch import IGNORE_LABEL, PackedProteins
from lcframework.data.batching import BatchSpec
from lcframework.data.counter_random import Stream, stream_key
from lcframework.data.graphs.csr import Graph
from lcframework.data.graphs.layout import cut_walks, lay_out, walk_tokens
from lcframework.data.graphs.protein_graph import ProteinGraph
from lcframework.data.graphs.walks import negative_walks, random_walks, walk_keys
from lcframework.data.masking import MaskingRule, mask_pack


@dataclass(frozen=True)
class WalkRule:
    """How walks are drawn. The paper gives none of these numbers; the defaults are ours.

    Attributes:
        length: nodes of a walk, the first included.
        per_node: walks that begin at each node in an epoch.
        p: node2vec's return parameter; above 1 a walk seldom turns back.
        q: node2vec's in-out parameter; above 1 a walk stays near, below 1 it goes outward.
        negative_share: share of the walks that go over pairs that are no edges.
        max_tokens: a longer walk is cut at a node's border; its first node always stays whole.
    """

    length: int = 5
    per_node: int = 1
    p: float = 1.0
    q: float = 1.0
    negative_share: float = 0.0
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        if self.length < 1 or self.per_node < 1 or self.max_tokens < 1:
            raise ValueError(
                "walk.length, walk.per_node and walk.max_tokens must be at least 1, got "
                f"{self.length}, {self.per_node} and {self.max_tokens}"
            )
        if not (self.p > 0 and self.q > 0):
            raise ValueError(f"walk.p and walk.q must be above 0, got {self.p} and {self.q}")
        if not 0.0 <= self.negative_share <= 1.0:
            raise ValueError(f"walk.negative_share must lie in [0, 1], got {self.negative_share}")


@dataclass(frozen=True)
class EpochWalks:
    """All walks of an epoch.

    Attributes:
        walks: (W, L) nodes.
        negative: (W,) bool.
        tokens: (W,) int64 tokens of each.
        cut: how many were cut to the budget.
    """

    walks: NDArray[np.int32]
    negative: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    cut: int


@dataclass(frozen=True)
class WalkDataset(Dataset):
    """Masked packs of walks over a protein graph.

    Attributes:
        proteins: sequences; nodes of `graph` are its nodes.
        graph: what is walked: the proteins' own graph, or one with fewer or other edges.
        nodes: (B,) nodes at which walks begin.
        rule: of the walks.
        masking: probabilities; structure tokens are never masked.
        seed: of walks and masks.
        stream: the split's stream of masks.
        scored: (V,) whose residues are masked and scored; None: everybody's. In evaluation the
            neighbours of a protein that was held out are context and nothing else.
        fixed_epoch: epoch of walks and masks whatever the batch's epoch (evaluation), or None.
    """

    proteins: ProteinGraph
    graph: Graph
    nodes: NDArray[np.int64]
    rule: WalkRule = field(default_factory=WalkRule)
    masking: MaskingRule = field(default_factory=MaskingRule)
    seed: int = 0
    stream: Stream = Stream.TRAIN_MASK
    scored: NDArray[np.bool_] | None = None
    fixed_epoch: int | None = None

    def __len__(self) -> int:
        """Walks of an epoch."""
        return len(self.nodes) * self.rule.per_node

    def __hash__(self) -> int:
        return id(self)

    def epoch_walks(self, epoch: int) -> EpochWalks:
        """The walks of an epoch; the last one asked for is kept."""
        return _epoch_walks(self, epoch if self.fixed_epoch is None else self.fixed_epoch)

    def token_lengths(self, epoch: int) -> NDArray[np.int64]:
        """(W,) tokens of each walk of an epoch."""
        return self.epoch_walks(epoch).tokens

    def __getitem__(self, spec: BatchSpec) -> PackedProteins:
        """The pack of one batch.

        Args:
            spec: the epoch, and (S,) int64 numbers of walks.
        """
        epoch, ids_S = spec
        epoch = epoch if self.fixed_epoch is None else self.fixed_epoch
        drawn = self.epoch_walks(epoch)
        walks = drawn.walks[ids_S]
        laid = lay_out(walks, drawn.negative[ids_S], self.proteins.tokens, self.proteins.starts)
        cu_seqlens = np.append(laid.starts, len(laid.tokens))
        lengths_S = np.diff(cu_seqlens)
        positions_T = np.arange(len(laid.tokens)) - np.repeat(laid.starts, lengths_S)
        key = stream_key(self.seed, epoch, self.stream)
        masked_T, labels_T = mask_pack(
            laid.tokens, laid.starts, positions_T, ids_S, self.masking, key
        )
        if self.scored is not None:
            ends = np.append(laid.node_starts[1:], len(laid.tokens))
            context = np.repeat(~self.scored[laid.nodes], ends - laid.node_starts)
            masked_T[context] = laid.tokens[context]
            labels_T[context] = IGNORE_LABEL
        return PackedProteins(
            tokens=torch.from_numpy(masked_T),
            labels=torch.from_numpy(labels_T),
            cu_seqlens=torch.from_numpy(cu_seqlens.astype(np.int32)),
            max_len=int(lengths_S.max()),
            sequence_ids=torch.from_numpy(ids_S.astype(np.int64)),
        )


@functools.lru_cache(maxsize=4)
def _epoch_walks(data: WalkDataset, epoch: int) -> EpochWalks:
    rule = data.rule
    nodes = np.repeat(data.nodes, rule.per_node)
    indices = np.tile(np.arange(rule.per_node), len(data.nodes)) + epoch * rule.per_node
    shares = walk_keys(data.seed ^ int(Stream.NEGATIVE_WALK), nodes, indices) * 2.0**-64
    negative = shares < rule.negative_share
    walks = np.empty((len(nodes), rule.length), np.int32)
    for chosen, draw in ((~negative, _along_edges(rule)), (negative, negative_walks)):
        if chosen.any():
            walks[chosen] = draw(
                data.graph, nodes[chosen], indices[chosen], rule.length, seed=data.seed
            )
    lengths = data.proteins.lengths()
    walks, cut = cut_walks(walks, lengths, rule.max_tokens)
    return EpochWalks(walks, negative, walk_tokens(walks, lengths), cut)


def _along_edges(rule: WalkRule):
    return functools.partial(random_walks, p=rule.p, q=rule.q)
