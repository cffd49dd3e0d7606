"""From the observation window's queries to a threshold for any sparsity.

The paper takes one quantile of all (layer, head, token) scores. A token's score is its cluster's,
so the clusters' scores, each with its size as weight, are an exact sketch of that distribution,
1/D of the centroids' size: it is stored with the context, and any quantile is taken at run time.

Legend: H key-value heads, Hq query heads, K clusters of a level, W queries of the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcframework.errors import ConfigError, DataError
from lcframework.ops.squeezed_attention import FixedKV
from lcframework.ops.squeezed_attention.selection import cluster_scores

SCOPES = ("global", "layer", "head")


@dataclass(frozen=True)
class Sketch:
    """One layer's calibration scores.

    Attributes:
        scores: per level (Hq, K) float32, the mean over the window's queries of
            exp(q.C_j) / sum_i N_i exp(q.C_i).
        sizes: per level (H, K) int32 tokens of each cluster.
    """

    scores: tuple[Tensor, ...]
    sizes: tuple[Tensor, ...]

    def reduced(self, level: int, group: str) -> tuple[Tensor, Tensor]:
        """Scores and sizes (S, K) per selection head, as the rule of that name forms them."""
        scores, sizes = self.scores[level], self.sizes[level]
        H, K = sizes.shape
        if group == "none":
            return scores, sizes.repeat_interleave(len(scores) // H, 0)
        grouped = scores.view(H, -1, K)
        return (grouped.mean(1) if group == "mean" else grouped.amax(1)), sizes


def calibrate(query: Tensor, fixed: FixedKV, scale: float, name: str) -> Sketch:
    """Score every cluster of every level with the observation window's queries.

    Args:
        query: (Hq, W, D), rotated.
        fixed: the layer's context.
        scale: factor on the logits.
        name: of the layer, for the error.

    Raises:
        DataError: a score is not finite, which would silently drop everything.
    """
    scores = tuple(
        cluster_scores(query[None], None, level, None, scale, "none")[0].float()
        for level in fixed.levels
    )
    if not all(bool(torch.isfinite(one).all()) for one in scores):
        raise DataError(
            f"The calibration scores of {name} are not finite: its keys or queries are NaN or "
            "infinite. Load the model in a wider dtype (bfloat16 or float32 instead of float16)."
        )
    return Sketch(scores, tuple(level.sizes for level in fixed.levels))


def weighted_quantile(scores: Tensor, weights: Tensor, share: float) -> Tensor:
    """The smallest score up to which at least `share` of the weight lies, () like `scores`; -inf
    for a share of 0. "Greater than it" then drops that share, and at most one cluster more."""
    if share <= 0 or scores.numel() == 0:
        return scores.new_tensor(-torch.inf)
    order = scores.argsort()
    total = weights[order].double().cumsum(0)
    place = torch.searchsorted(total, share * total[-1])
    return scores[order][place.clamp(max=len(scores) - 1)]


def thresholds(
    sketches: Sequence[Sketch],
    sparsity: float,
    *,
    coarse_sparsity: float = 0.5,
    scope: str = "global",
    group: str = "mean",
) -> list[Tensor | None]:
    """Each layer's thresholds for a wanted sparsity.

    Args:
        sketches: one per layer.
        sparsity: share of the clustered tokens below the finest level's threshold, in [0, 1).
        coarse_sparsity: the same for every upper level (the paper's 0.5), never more than
            `sparsity`.
        scope: one threshold for all layers and heads ("global", the paper), one per "layer", or one
            per "head".
        group: as in `SelectionRule`.

    Returns:
        Per layer (levels, S) float32, or None for all where the sparsity is 0.

    Raises:
        ConfigError: a sparsity outside [0, 1), an unknown scope.
    """
    for name, value in (("sparsity", sparsity), ("coarse_sparsity", coarse_sparsity)):
        if not 0 <= value < 1:
            raise ConfigError(f"{name}={value}: it must lie in [0, 1); 0 keeps everything.")
    if scope not in SCOPES:
        raise ConfigError(f"threshold scope {scope!r} is unknown: choose one of {SCOPES}.")
    if sparsity == 0 or not sketches:
        return [None] * len(sketches)
    levels = len(sketches[0].scores)
    rows: list[list[Tensor]] = [[] for _ in sketches]
    for level in range(levels):
        share = sparsity if level == 0 else min(coarse_sparsity, sparsity)
        pairs = [sketch.reduced(level, group) for sketch in sketches]
        if scope == "global":
            every = torch.cat([scores.flatten() for scores, _ in pairs])
            weights = torch.cat([sizes.flatten() for _, sizes in pairs])
            tau = weighted_quantile(every, weights, share)
        for row, (scores, sizes) in zip(rows, pairs, strict=True):
            S = len(scores)
            if scope == "head":
                each = zip(scores, sizes, strict=True)
                row.append(torch.stack([weighted_quantile(*one, share) for one in each]))
            else:
                if scope == "layer":
                    tau = weighted_quantile(scores.flatten(), sizes.flatten(), share)
                row.append(tau.expand(S))
    return [torch.stack(row) for row in rows]
