"""The slow, obvious reference in float64: loops over rows, heads and queries, token by token."""

import math

import torch
from torch import Tensor

from lcframework.ops.squeezed_attention.layout import FixedKV, Level, SelectionRule


def squeezed_attention_reference(
    query: Tensor,
    fixed: FixedKV,
    tail_key: Tensor,
    tail_value: Tensor,
    tail_mask: Tensor,
    rule: SelectionRule,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """See `dispatch.squeezed_attention`; `tail_mask` is (B or 1, 1, Q, T) bool here.

    Returns:
        output (B, Hq, Q, Dv) in the dtype of `query`, kept tokens (B, S) float64.
    """
    B, Hq, Q, _ = query.shape
    H = fixed.keys.shape[0]
    G, T = Hq // H, tail_key.shape[2]
    S = Hq if rule.group == "none" else H
    mask = tail_mask.expand(B, 1, Q, T)[:, 0]
    out = torch.zeros(B, Hq, Q, fixed.values.shape[2], dtype=torch.float64)
    kept = torch.zeros(B, S, dtype=torch.float64)
    block = rule.query_block or Q
    for b in range(B):
        real = [q for q in range(Q) if mask[b, q, T - Q + q]]
        for start in range(0, Q, block):
            queries = range(start, min(Q, start + block))
            scored = [q for q in queries if q in real]
            for s in range(S):
                kv = s // (S // H)
                heads = [s] if Hq == S and rule.group == "none" else range(kv * G, kv * G + G)
                keep = _kept_clusters(query[b], fixed, kv, s, list(heads), scored, rule, scale)
                tokens = _tokens_of(keep, fixed, kv)
                kept[b, s] += len(tokens) * len(scored) / max(1, len(real))
                for head in heads:
                    for q in queries:
                        out[b, head, q] = _attend(
                            query[b, head, q].double(),
                            fixed,
                            kv,
                            keep,
                            tokens,
                            tail_key[b, kv],
                            tail_value[b, kv],
                            mask[b, q],
                            rule,
                            scale,
                        )
    return out.to(query.dtype), kept


def _kept_clusters(query_HQD, fixed: FixedKV, kv, s, heads, scored, rule, scale) -> set[int]:
    """Clusters of level 0 that are kept, as are all their ancestors."""
    if fixed.clustered == 0:
        return set()
    alive: set[int] | None = None
    for number in range(len(fixed.levels) - 1, -1, -1):
        level = fixed.levels[number]
        sizes = level.sizes[kv].tolist()
        present = [j for j, size in enumerate(sizes) if size and (alive is None or j in alive)]
        best_first = number == 0 and (rule.budget is not None or rule.top_p is not None)
        if rule.thresholds is None and not best_first:
            keep = set(present)
        else:
            score = _scores(query_HQD, level, kv, heads, scored, present, sizes, rule, scale)
            if best_first:
                keep = _best_first(score, present, sizes, rule)
            else:
                assert rule.thresholds is not None
                tau = float(rule.thresholds[number, s])
                keep = {j for j in present if score[j] > tau}
        if number == 0:
            return keep
        parents = fixed.levels[number - 1].parents
        assert parents is not None
        alive = {j for j, parent in enumerate(parents[kv].tolist()) if parent in keep}
    raise AssertionError


def _scores(query_HQD, level: Level, kv, heads, scored, present, sizes, rule, scale):
    """Mean over queries of exp(a_j) / sum_i N_i exp(a_i), then the reduction over query heads."""
    per_head = []
    for head in heads:
        total = dict.fromkeys(present, 0.0)
        for q in scored:
            logits = level.centroids[kv].double() @ query_HQD[head, q].double() * scale
            top = max((float(logits[j]) for j in present), default=0.0)
            denominator = sum(sizes[j] * math.exp(float(logits[j]) - top) for j in present)
            for j in present:
                total[j] += math.exp(float(logits[j]) - top) / denominator / len(scored)
        per_head.append(total)
    reduce = max if rule.group == "max" else lambda values: sum(values) / len(values)
    return {j: reduce([one[j] for one in per_head]) for j in present}


def _best_first(score, present, sizes, rule) -> set[int]:
    keep, used = set(), 0.0
    for j in sorted(present, key=lambda j: -score[j]):
        if rule.budget is not None:
            used += sizes[j]
            if used > rule.budget:
                break
        else:
            if used >= rule.top_p:
                break
            used += sizes[j] * score[j]
        keep.add(j)
    return keep


def _tokens_of(keep: set[int], fixed: FixedKV, kv: int) -> list[int]:
    if fixed.clustered == 0:
        return []
    offsets = fixed.levels[0].offsets[kv].tolist()
    return [token for j in sorted(keep) for token in range(offsets[j], offsets[j + 1])]


def _attend(q, fixed, kv, keep, tokens, tail_key, tail_value, visible, rule, scale) -> Tensor:
    keys = [fixed.keys[kv, tokens], fixed.exact_keys[kv], tail_key[visible]]
    values = [fixed.values[kv, tokens], fixed.exact_values[kv], tail_value[visible]]
    bias = [torch.zeros(sum(map(len, keys)), dtype=torch.float64)]
    if rule.correct_values and fixed.clustered and not rule.keeps_all:
        level = fixed.levels[0]
        sizes = level.sizes[kv]
        dropped = [j for j in range(len(sizes)) if j not in keep and sizes[j]]
        keys.append(level.centroids[kv, dropped])
        values.append(fixed.value_centroids[kv, dropped])
        bias.append(sizes[dropped].double().log())
    logits = torch.cat(keys).double() @ q * scale + torch.cat(bias)
    return torch.softmax(logits, 0) @ torch.cat(values).double()
