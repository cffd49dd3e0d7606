"""From a layer's keys and values to the layout that squeezed attention reads: clusters, clusters of
clusters, and the order in which each of them is one contiguous segment.

Legend: H key-value heads, N clustered tokens, K clusters of a level, D head size.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lcframework.errors import ConfigError
from lcframework.models.squeezed.clustering import cluster_keys, count, segment_sums
from lcframework.ops.squeezed_attention import FixedKV, Level

LOG_TOP = 16
"""`levels="log"` adds levels while the next one would have at least so many clusters."""


@dataclass(frozen=True)
class ClusterPlan:
    """How a context is clustered.

    Attributes:
        clusters: share of the clustered tokens in (0, 1), or a number of clusters.
        levels: number of levels, or "log": as many as the length asks for.
        level_ratio: clusters of a level per cluster of the level above (the paper's two levels, 5%
            and 1% of the tokens, are a ratio of 5).
        window: last tokens of the context that are kept exactly; their queries calibrate.
        sinks: first tokens that are kept exactly.
        seed: of the clusterings.
        value_centroids: also store each cluster's mean value, for `correct_values`.

    Raises:
        ConfigError: a value outside its range.
    """

    clusters: float = 0.05
    levels: int | str = 2
    level_ratio: int = 5
    window: int = 100
    sinks: int = 4
    seed: int = 0
    value_centroids: bool = False

    def __post_init__(self) -> None:
        share = 0 < self.clusters < 1
        whole = math.isfinite(self.clusters) and self.clusters == int(self.clusters)
        if not share and (self.clusters < 1 or not whole):
            raise ConfigError(
                f"clusters={self.clusters}: give a share of the context's tokens between 0 and 1, "
                "such as 0.05, or a whole number of clusters, at least 1."
            )
        if self.levels != "log" and (isinstance(self.levels, str) or self.levels < 1):
            raise ConfigError(f"levels={self.levels!r}: give a number, at least 1, or 'log'.")
        if self.level_ratio < 2:
            raise ConfigError(f"level_ratio={self.level_ratio}: a level must be at least halved.")
        if self.window < 1 or self.sinks < 0:
            raise ConfigError(
                f"window={self.window}, sinks={self.sinks}: the window's queries calibrate the "
                "thresholds, so it needs at least 1 token; sinks cannot be negative."
            )
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed={self.seed}: give a whole number from 0 to 2**32 - 1.")

    def sizes(self, tokens: int) -> list[int]:
        """Clusters of each level, finest first, for N clustered tokens.

        Raises:
            ConfigError: more clusters than tokens.
        """
        first = int(self.clusters * tokens) if self.clusters < 1 else int(self.clusters)
        if first > tokens:
            raise ConfigError(
                f"clusters={int(self.clusters)} of {tokens:,} tokens: there cannot be more "
                "clusters than tokens; give a share such as 0.05."
            )
        sizes = [max(1, first)]
        if self.levels == "log":
            while sizes[-1] // self.level_ratio >= LOG_TOP:
                sizes.append(sizes[-1] // self.level_ratio)
        else:
            for _ in range(int(self.levels) - 1):
                sizes.append(max(1, sizes[-1] // self.level_ratio))
        return sizes


def cluster_layer(
    keys: Tensor, values: Tensor, plan: ClusterPlan
) -> tuple[FixedKV, Tensor, dict[str, float]]:
    """Cluster one layer's context and put it into the order of its clusters.

    The centroid of a level-0 cluster is the mean of its keys as they are, not of the normalised
    ones (their length matters in q.C); an upper centroid is the mean over all keys under it.

    Args:
        keys: (H, S, D), rotated, in the order of the text.
        values: (H, S, Dv).
        plan: how.

    Returns:
        The layout; (H, N) int32 position in the text of each clustered token; and what the
        clustering came to: mean `loss` and `iterations` of level 0.
    """
    start, end = plan.sinks, keys.shape[1] - plan.window
    middle, middle_values = keys[:, start:end], values[:, start:end]
    exact_keys = torch.cat([keys[:, :start], keys[:, end:]], 1)
    exact_values = torch.cat([values[:, :start], values[:, end:]], 1)
    sizes = plan.sizes(end - start)
    points, weights = middle, torch.ones(middle.shape[:2], device=keys.device)
    labels, means, facts = [], [], {}
    for number, K in enumerate(sizes):
        found = cluster_keys(points, K, weights=weights, seed=plan.seed + number)
        if number == 0:
            facts = {"loss": float(found.loss.mean()), "iterations": float(found.iterations)}
        labels.append(found.labels)
        points, weights = _means(points, found.labels, K, weights)
        means.append(points)
    order, levels = contiguous(labels, sizes)
    levels = tuple(
        replace(level, centroids=_take(mean, rank).to(keys.dtype))
        for level, mean, rank in zip(levels, means, order[1:], strict=True)
    )
    value_centroids = None
    if plan.value_centroids:
        ones = torch.ones(middle.shape[:2], device=keys.device)
        mean, _ = _means(middle_values, labels[0], sizes[0], ones)
        value_centroids = _take(mean, order[1]).to(values.dtype)
    fixed = FixedKV(
        _take(middle, order[0]),
        _take(middle_values, order[0]),
        exact_keys.contiguous(),
        exact_values.contiguous(),
        levels,
        value_centroids,
    )
    return fixed, (order[0] + start).int(), facts


def _take(rows: Tensor, order: Tensor) -> Tensor:
    return rows.gather(1, order[..., None].expand(-1, -1, rows.shape[-1])).contiguous()


def _means(points: Tensor, labels: Tensor, clusters: int, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean (H, K, D) float32 and weight (H, K) of each cluster."""
    zero = torch.zeros(labels.shape[0], clusters, device=points.device)
    total = zero.scatter_add_(1, labels, weights)
    sums = segment_sums(points, labels, clusters, weights)
    return sums / total.clamp(min=1e-30)[..., None], total


def contiguous(labels: list[Tensor], sizes: list[int]) -> tuple[list[Tensor], tuple[Level, ...]]:
    """The order in which every cluster of every level is one segment.

    Args:
        labels: (H, N) cluster of each token, then (H, K0) cluster of each cluster, and so on.
        sizes: clusters of each level.

    Returns:
        Old index of each token, then of each level's clusters, all (H, .) int64 in the new order;
        and the levels' borders, their centroids still empty.
    """
    H = labels[0].shape[0]
    order = torch.arange(sizes[-1], device=labels[0].device).expand(H, -1)
    orders, children = [order], []
    for label, K in zip(reversed(labels), reversed(sizes), strict=True):
        rank = torch.empty_like(order).scatter_(1, order, _range(order))
        parent = rank.gather(1, label)  # the new number of each one's cluster
        order = parent.argsort(dim=1, stable=True)  # within a cluster the text's order stays
        orders.append(order)
        sizes_HK = count(parent, K)
        children.append(torch.cat([sizes_HK.new_zeros(H, 1), sizes_HK.cumsum(1)], 1))
    orders.reverse()
    children.reverse()
    offsets, levels = children[0], []
    for number, borders in enumerate(children):
        if number:
            offsets = offsets.gather(1, borders)
        parents = None
        if number + 1 < len(children):
            index = _range(orders[number + 1]).contiguous()
            ends = children[number + 1][:, 1:].contiguous()
            parents = torch.searchsorted(ends, index, right=True).int()
        empty = torch.empty(0, device=borders.device)
        levels.append(Level(empty, offsets.int(), borders.int(), parents))
    return orders, tuple(levels)


def _range(like: Tensor) -> Tensor:
    return torch.arange(like.shape[1], device=like.device).expand_as(like)
