"""Scores of clusters and the choice among them, on the device, without asking it for a number.

Legend: B rows, H key-value heads, Hq query heads, G = Hq / H, S selection heads (H, or Hq with
    group "none"), Q queries, K clusters of a level, D head size.
"""

import torch
from torch import Tensor

from lcframework.ops.squeezed_attention.layout import Level, SelectionRule

LOGITS_AT_ONCE = 1 << 26
"""Logits formed at a time: 256 MB in float32."""


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of scores and softmax: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def shared_logits(query_BHRD: Tensor, keys_HND: Tensor) -> Tensor:
    """Products (B, H, R, N) of every row's queries with keys that all rows share; the keys are
    read once, not once per row."""
    B, H, R, D = query_BHRD.shape
    rows_HRD = query_BHRD.transpose(0, 1).reshape(H, B * R, D)
    logits_HRN = torch.matmul(rows_HRD, keys_HND.transpose(1, 2))
    return logits_HRN.view(H, B, R, -1).transpose(0, 1).to(wide(query_BHRD.dtype))


def cluster_scores(
    query: Tensor,
    valid: Tensor | None,
    level: Level,
    alive: Tensor | None,
    scale: float,
    group: str,
) -> Tensor:
    """Estimated attention weight of a token of each cluster (paper section 4.1; section 4.2 for
    more than one level: the denominator holds what survived above).

    Args:
        query: (B, Hq, Q, D), rotated.
        valid: (B, Q) bool, False for padding; None: all are queries.
        level: the clusters.
        alive: (B, S, K) bool, clusters whose ancestors survived; None: all.
        scale: factor on the logits.
        group: "mean", "max" or "none".

    Returns:
        (B, S, K) float32 (float64 for float64 queries), 0 for empty clusters and dead ones.
    """
    B, Hq, Q, D = query.shape
    H, K = level.centroids.shape[:2]
    G = Hq // H
    query_BHGQD = query.reshape(B, H, G, Q, D)
    sizes_HK = level.sizes.to(wide(query.dtype))
    log_sizes_HK = sizes_HK.log()  # an empty cluster's is -inf: it drops out of max and sum alike
    usable_B1K = (sizes_HK > 0)[None]
    mask = (
        usable_B1K
        if alive is None
        else usable_B1K.repeat_interleave(alive.shape[1] // H, 1) & alive
    )
    # (B or 1, H, G or 1, 1, K)
    mask_BHG1K = mask.view(mask.shape[0], H, -1, 1, K)
    total = sizes_HK.new_zeros(B, H, G, K)
    step = max(1, LOGITS_AT_ONCE // max(1, B * Hq * K))
    for start in range(0, Q, step):
        part = query_BHGQD[:, :, :, start : start + step]
        n = part.shape[3]
        logits = shared_logits(part.reshape(B, H, G * n, D), level.centroids.to(query.dtype))
        logits = logits.view(B, H, G, n, K) * scale
        weighted = (logits + log_sizes_HK[:, None, None]).masked_fill(~mask_BHG1K, -torch.inf)
        log_sum = weighted.logsumexp(-1, keepdim=True)
        score = (logits - log_sum).masked_fill(~mask_BHG1K, -torch.inf).exp()
        if valid is not None:
            score = score * valid[:, None, None, start : start + step, None]
        total += score.sum(3)
    if valid is None:
        total /= Q
    else:
        total /= valid.sum(-1).clamp(min=1)[:, None, None, None]
    if group == "none":
        return total.view(B, Hq, K)
    return total.mean(2) if group == "mean" else total.amax(2)


def _best_first(score: Tensor, sizes: Tensor, rule: SelectionRule, alive: Tensor) -> Tensor:
    """The clusters within a token budget or a share of the mass, (B, S, K) bool."""
    score = score.masked_fill(~alive, -1.0)
    order = score.argsort(dim=-1, descending=True, stable=True)
    sizes = sizes.expand_as(score).gather(-1, order)
    if rule.budget is not None:
        within = sizes.cumsum(-1) <= rule.budget
    else:
        mass = score.gather(-1, order).clamp(min=0) * sizes
        before = mass.cumsum(-1) - mass
        within = before < rule.top_p  # type: ignore[operator]
    keep = torch.zeros_like(alive).scatter(-1, order, within)
    return keep & alive


def queries_of(tail_mask: Tensor, rows: int) -> Tensor:
    """(B, Q) bool: which queries are tokens; padding does not see itself."""
    Q, T = tail_mask.shape[-2:]
    return tail_mask[:, 0].diagonal(T - Q, dim1=-2, dim2=-1).expand(rows, -1)


def select_clusters(
    query: Tensor,
    valid: Tensor | None,
    levels: tuple[Level, ...],
    rule: SelectionRule,
    scale: float,
) -> Tensor:
    """The clusters of level 0 that a call reads: kept themselves, as are all their ancestors.

    Returns:
        (B, S, K) bool; never an empty cluster.
    """
    B, Hq = query.shape[:2]
    H = levels[0].centroids.shape[0]
    S = Hq if rule.group == "none" else H
    alive: Tensor | None = None
    for number in range(len(levels) - 1, -1, -1):
        level = levels[number]
        sizes_1SK = level.sizes.repeat_interleave(S // H, 0)[None]
        usable = (sizes_1SK > 0).expand(B, -1, -1)
        present = usable if alive is None else usable & alive
        best_first = number == 0 and (rule.budget is not None or rule.top_p is not None)
        if rule.thresholds is None and not best_first:
            keep = present
        else:
            score = cluster_scores(query, valid, level, alive, scale, rule.group)
            if best_first:
                keep = _best_first(score, sizes_1SK, rule, present)
            else:
                assert rule.thresholds is not None
                keep = present & (score > rule.thresholds[number][None, :, None])
        if number == 0:
            return keep
        parents = levels[number - 1].parents
        assert parents is not None
        index = parents.long().repeat_interleave(S // H, 0)[None].expand(B, -1, -1)
        alive = keep.gather(-1, index)
    raise AssertionError("a context with clustered tokens has at least one level")
