"""What squeezed attention reads: one layer's fixed context, and the rule that selects its clusters.

Legend: H key-value heads, Hq query heads, G = Hq / H, N clustered tokens, E tokens kept exactly,
    K clusters of a level, D head size. Level 0 is the finest.

A cluster is a contiguous segment of the stored keys and values, and so is a cluster of every upper
level: attention to a context does not depend on the order of its tokens, because the keys carry
their positions already (rotated before they were stored) and every context token precedes every
query. So there are no labels and no gathered indices, only borders.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

GROUPS = ("mean", "max", "none")


@dataclass(frozen=True)
class Level:
    """Clusters of one level.

    Attributes:
        centroids: (H, K, D) mean of the keys under each cluster.
        offsets: (H, K+1) int32, cluster k holds tokens `offsets[h, k]:offsets[h, k+1]`; equal
            borders mean an empty cluster, which is never selected.
        children: (H, K+1) int32, the same borders counted in clusters of the level below; for level
            0 equal to `offsets`.
        parents: (H, K) int32, each cluster's cluster on the level above; None on the top level.
    """

    centroids: Tensor
    offsets: Tensor
    children: Tensor
    parents: Tensor | None = None

    @property
    def sizes(self) -> Tensor:
        """(H, K) int32 tokens of each cluster."""
        return self.offsets.diff(dim=-1)

    def to(self, device: torch.device | str) -> "Level":
        """The same level on `device`."""
        parents = None if self.parents is None else self.parents.to(device)
        return Level(
            self.centroids.to(device), self.offsets.to(device), self.children.to(device), parents
        )


@dataclass(frozen=True)
class FixedKV:
    """Keys and values of a fixed context in one layer, in the order of their clusters.

    Attributes:
        keys: (H, N, D) clustered keys, rotated.
        values: (H, N, Dv).
        exact_keys: (H, E, D) keys attended to whatever the rule says (sinks, observation window).
        exact_values: (H, E, Dv).
        levels: finest first; at least one unless N is 0.
        value_centroids: (H, K, Dv) mean values of level 0's clusters, or None.
    """

    keys: Tensor
    values: Tensor
    exact_keys: Tensor
    exact_values: Tensor
    levels: tuple[Level, ...]
    value_centroids: Tensor | None = None

    @property
    def clustered(self) -> int:
        """N, the tokens a rule chooses from."""
        return self.keys.shape[1]

    @property
    def length(self) -> int:
        """N + E, all tokens of the context."""
        return self.keys.shape[1] + self.exact_keys.shape[1]

    def finest(self, levels: int | None) -> "FixedKV":
        """The same tokens with the finest so many levels only; None: all."""
        if levels is None or levels >= len(self.levels):
            return self
        kept = self.levels[:levels]
        return replace(self, levels=(*kept[:-1], replace(kept[-1], parents=None)))

    def to(self, device: torch.device | str) -> "FixedKV":
        """The same context on `device`."""
        centroids = self.value_centroids
        return replace(
            self,
            keys=self.keys.to(device),
            values=self.values.to(device),
            exact_keys=self.exact_keys.to(device),
            exact_values=self.exact_values.to(device),
            levels=tuple(level.to(device) for level in self.levels),
            value_centroids=None if centroids is None else centroids.to(device),
        )

    def check(self) -> None:
        """Refuse a layout that does not hang together; reads the borders, so not for every call.

        Raises:
            ValueError: shapes that do not fit, borders that fall or do not cover the tokens, more
                than 2^31 - 1 tokens, tensors on different devices.
        """
        H, N, D = self.keys.shape
        if torch.iinfo(torch.int32).max < N:
            raise ValueError(f"{N:,} tokens do not fit the int32 borders of clusters")
        want: dict[str, tuple[Tensor, tuple[int, ...]]] = {
            "values": (self.values, (H, N, self.values.shape[2])),
            "exact_keys": (self.exact_keys, (H, self.exact_keys.shape[1], D)),
            "exact_values": (
                self.exact_values,
                (H, self.exact_keys.shape[1], self.values.shape[2]),
            ),
        }
        if N and not self.levels:
            raise ValueError(f"{N} clustered tokens need at least one level of clusters")
        below = N
        for number, level in enumerate(self.levels):
            K = level.centroids.shape[1]
            want[f"centroids of level {number}"] = (level.centroids, (H, K, D))
            want[f"offsets of level {number}"] = (level.offsets, (H, K + 1))
            want[f"children of level {number}"] = (level.children, (H, K + 1))
            top = number + 1 == len(self.levels)
            if (level.parents is None) != top:
                raise ValueError(f"level {number} must have parents unless it is the top level")
            if level.parents is not None:
                want[f"parents of level {number}"] = (level.parents, (H, K))
            for name, borders, last in (
                ("offsets", level.offsets, N),
                ("children", level.children, below),
            ):
                falls = bool((borders.diff(dim=-1) < 0).any())
                if falls or bool((borders[:, 0] != 0).any() | (borders[:, -1] != last).any()):
                    raise ValueError(
                        f"{name} of level {number} must rise from 0 to {last} in every head"
                    )
            below = K
        if self.value_centroids is not None:
            K = self.levels[0].centroids.shape[1] if self.levels else 0
            want["value_centroids"] = (self.value_centroids, (H, K, self.values.shape[2]))
        for name, (tensor, shape) in want.items():
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
            if tensor.device != self.keys.device:
                raise ValueError(f"{name} is on {tensor.device}, keys on {self.keys.device}")


@dataclass(frozen=True)
class SelectionRule:
    """Which clusters a query reads.

    A cluster's score is the paper's: exp(q.C_j) / sum_i N_i exp(q.C_i), averaged over the queries
    of a call, i.e. an estimate of the attention weight of one of its tokens. On every level above
    the finest a cluster survives if its score is above that level's threshold; on the finest the
    threshold, the token budget or the mass decides.

    Attributes:
        thresholds: (levels, S) float32, level 0 first, S = H or, with `group="none"`, Hq; -inf
            keeps everything on that level. None keeps everything.
        budget: tokens per selection head: the best clusters whose sizes together do not exceed it,
            instead of level 0's threshold.
        top_p: share of the estimated attention mass: the fewest best clusters that reach it,
            instead of level 0's threshold.
        group: "mean" and "max" reduce the scores of the G query heads that share a key-value head,
            so that they read one set of keys; "none" selects for each query head by itself.
        query_block: queries that share one selection; None: all queries of a call (the paper).
        correct_values: let a dropped cluster stand for its tokens, N_j exp(q.C_j) times its mean
            value (as in MultipoleAttention); needs `FixedKV.value_centroids`.
    """

    thresholds: Tensor | None = None
    budget: int | None = None
    top_p: float | None = None
    group: str = "mean"
    query_block: int | None = None
    correct_values: bool = False

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"group must be one of {GROUPS}, got {self.group!r}")
        if self.budget is not None and self.top_p is not None:
            raise ValueError("give budget or top_p, not both")
        if self.budget is not None and self.budget < 0:
            raise ValueError(f"budget must not be negative, got {self.budget}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.query_block is not None and self.query_block < 1:
            raise ValueError(f"query_block must be positive, got {self.query_block}")

    @property
    def keeps_all(self) -> bool:
        """Whether nothing can be dropped; known without looking at a tensor."""
        return self.thresholds is None and self.budget is None and self.top_p is None
