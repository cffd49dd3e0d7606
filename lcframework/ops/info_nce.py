"""Symmetric InfoNCE over pairs of views (CLIP's form, arXiv 2103.00020, Fig. 3; Focused Learning,
arXiv 2411.05928).

Shape letters: B pairs in the pool, Q pairs of earlier steps, D width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_SCALE = 100.0
"""Upper end of exp(log_scale), as in CLIP."""


class Negatives(NamedTuple):
    """Pairs that are negatives only (He et al., arXiv 1911.05722: a queue of past embeddings).

    Attributes:
        original_QD: embeddings of their original views, negatives of focused ones.
        focused_QD: of their focused views, negatives of original ones.
        excluded_BQ: bool, where one is no negative of a pair of the pool (the same question).
    """

    original_QD: Tensor
    focused_QD: Tensor
    excluded_BQ: Tensor


def info_nce(
    original_BD: Tensor, focused_BD: Tensor, log_scale: Tensor, excluded_BB: Tensor | None = None,
    more: Negatives | None = None,
) -> Tensor:  # fmt: skip
    """0.5 [CE(s, i) + CE(s^T, i)] with s_ij = exp(log_scale) cos(original_i, focused_j).

    Args:
        original_BD: embeddings of the original views, any length.
        focused_BD: of the focused views, in the same order.
        log_scale: () logarithm of the inverse temperature; learnt.
        excluded_BB: bool, symmetric, where pair j is no negative of pair i (the same question); the
            diagonal is ignored.
        more: negatives from outside of the pool.

    Returns:
        () mean in nats over the pairs that have a negative. A pair without one would add 0 with no
        gradient; it is left out of the mean.

    Raises:
        ValueError: shapes differ, or no pair has a negative.
    """
    pairs = len(original_BD)
    if original_BD.shape != focused_BD.shape or original_BD.ndim != 2:
        raise ValueError(f"views of (B, D) alike, not {original_BD.shape} and {focused_BD.shape}")
    eye_BB = torch.eye(pairs, dtype=torch.bool, device=original_BD.device)
    barred_BB = torch.zeros_like(eye_BB) if excluded_BB is None else excluded_BB & ~eye_BB
    rows_B = (~(barred_BB | eye_BB)).any(1)
    if more is not None:
        rows_B = rows_B | (~more.excluded_BQ).any(1)
    if not rows_B.any():
        raise ValueError("no pair has a negative: the contrastive loss would be 0")
    originals, focused = F.normalize(original_BD, dim=-1), F.normalize(focused_BD, dim=-1)
    scale = log_scale.exp()
    there = (scale * originals @ focused.T).masked_fill(barred_BB, -torch.inf)
    back = there.T
    if more is not None:
        past = [F.normalize(one, dim=-1).T for one in (more.focused_QD, more.original_QD)]
        sides = ((there, originals, past[0]), (back, focused, past[1]))
        there, back = (
            torch.cat([own, (scale * rows @ old).masked_fill(more.excluded_BQ, -torch.inf)], 1)
            for own, rows, old in sides
        )
    target_B = torch.arange(pairs, device=there.device)[rows_B]
    return 0.5 * (
        F.cross_entropy(there[rows_B], target_B) + F.cross_entropy(back[rows_B], target_B)
    )


def info_nce_reference(
    original: list[list[float]], focused: list[list[float]], scale: float,
    excluded: set[tuple[int, int]] | None = None,
) -> float:  # fmt: skip
    """The same with loops over Python numbers, to be tested against."""

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    barred, losses = excluded or set(), []
    for i in range(len(original)):
        others = [j for j in range(len(original)) if j != i and (i, j) not in barred]
        if not others:
            continue
        own = scale * cosine(original[i], focused[i])
        there = [own, *(scale * cosine(original[i], focused[j]) for j in others)]
        back = [own, *(scale * cosine(original[j], focused[i]) for j in others)]
        losses.append(
            0.5 * sum(math.log(sum(math.exp(one - own) for one in side)) for side in (there, back))
        )
    return sum(losses) / len(losses)
