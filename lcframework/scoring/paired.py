"""How much a cheaper model (other attention, fewer keys, fewer bits) differs from the dense one on
the same texts: token by token, teacher-forced, with intervals over documents.

Both models read the same tokens, so every position is a pair. The texts are the dense model's own
answers or the gold answers. Thousands of paired tokens resolve differences that scores of a few
hundred answers do not.

Shape letters: T tokens scored, V vocabulary, D documents.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcframework.scoring.intervals import RESAMPLES, Interval, bootstrap_ratio

_AT_ONCE = 1 << 24
"""Logits compared at a time in float64: bounds the memory at large vocabularies."""


@dataclass(frozen=True)
class PairedTokens:
    """Per token of some text.

    Attributes:
        kl_T: KL(dense || other) of the next-token distributions, in nats, at least 0.
        agree_T: whether both have the same most likely token.
        gold_T: log-likelihood of the text's token, other minus dense, in nats; below 0 where the
            other model likes the text less.
        margin_T: probability of dense's most likely token minus that of its second: a disagreement
            at a small margin is a coin toss of either model.
    """

    kl_T: NDArray[np.float64]
    agree_T: NDArray[np.bool_]
    gold_T: NDArray[np.float64]
    margin_T: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.kl_T)


def compare_logits(dense_TV: Tensor, other_TV: Tensor, gold_T: Tensor) -> PairedTokens:
    """Compare two models' logits on the same tokens.

    Args:
        dense_TV: logits of the dense model, one row per position that predicts a scored token.
        other_TV: the other model's, of the same shape, any float dtype.
        gold_T: the token that stands next at each position, int64.

    Returns:
        The comparison, computed in float64.

    Raises:
        ValueError: shapes differ, nothing to compare, a token outside the vocabulary, or logits
            that are NaN or positive infinity (negative infinity is a token that cannot come).
    """
    _check(dense_TV, other_TV, gold_T)
    rows = max(1, _AT_ONCE // dense_TV.shape[1])
    parts = [
        _compare(dense_TV[start : start + rows], other_TV[start : start + rows],
                 gold_T[start : start + rows])
        for start in range(0, len(gold_T), rows)
    ]  # fmt: skip
    return PairedTokens(*(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)))


def _compare(dense_TV: Tensor, other_TV: Tensor, gold_T: Tensor) -> tuple[Tensor, ...]:
    dense, other = (one.double().log_softmax(-1) for one in (dense_TV, other_TV))
    weight = dense.exp()
    # A token that dense gives no probability adds nothing, whatever the other says of it.
    each = torch.where(weight > 0, weight * (dense - other), 0.0)
    kl = each.sum(-1).clamp_min(0.0)  # rounding may leave -1e-17
    top = weight.topk(min(2, weight.shape[-1]), dim=-1).values
    margin = top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0]
    gold = (other - dense).gather(-1, gold_T[:, None].to(dense.device))[:, 0]
    return kl, dense.argmax(-1) == other.argmax(-1), gold, margin


def _check(dense_TV: Tensor, other_TV: Tensor, gold_T: Tensor) -> None:
    if dense_TV.ndim != 2 or dense_TV.shape != other_TV.shape or gold_T.shape != dense_TV.shape[:1]:
        raise ValueError(
            f"logits must be (T, V) alike and gold (T,), got {tuple(dense_TV.shape)}, "
            f"{tuple(other_TV.shape)} and {tuple(gold_T.shape)}"
        )
    if not len(gold_T):
        raise ValueError("there are no tokens to compare")
    if int(gold_T.min()) < 0 or int(gold_T.max()) >= dense_TV.shape[1]:
        raise ValueError(f"a gold token lies outside the vocabulary of {dense_TV.shape[1]}")
    for name, logits in (("dense", dense_TV), ("other", other_TV)):
        if bool((logits.isnan() | (logits == torch.inf)).any()):
            raise ValueError(f"the {name} model's logits are not numbers: its output is broken")


@dataclass(frozen=True)
class PairedSummary:
    """Means over tokens with 95% intervals over documents; `tokens` tokens, `documents` documents.

    Attributes:
        kl: nats per token.
        agreement: share of tokens.
        gold_difference: nats per token.
        tokens: pairs.
        documents: independent units of the intervals.
    """

    kl: Interval
    agreement: Interval
    gold_difference: Interval
    tokens: int
    documents: int


def summarize(
    parts: Sequence[PairedTokens], documents: Sequence[Hashable], *, resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedSummary:  # fmt: skip
    """Means over all tokens; the bootstrap draws whole documents, since the tokens of one, and the
    questions about one, are not independent.

    Args:
        parts: comparisons, one per answer.
        documents: the document that each belongs to.
        resamples: bootstrap resamples.
        seed: of the draws; the same one gives two methods the same draws.

    Raises:
        ValueError: none, not one document for each, or an infinite divergence: the other model
            gives no probability to a token that the dense one expects.
    """
    if not parts or len(parts) != len(documents):
        raise ValueError(f"{len(parts)} comparisons and {len(documents)} documents: one for each")
    place = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    counts_D = np.zeros(len(place))
    sums_D = {"kl_T": np.zeros(len(place)), "agree_T": np.zeros(len(place)),
              "gold_T": np.zeros(len(place))}  # fmt: skip
    for part, name in zip(parts, documents, strict=True):
        if not (np.isfinite(part.kl_T).all() and np.isfinite(part.gold_T).all()):
            raise ValueError(
                f"document {name!r}: one model rules a token out, the mean is infinite"
            )
        counts_D[place[name]] += len(part)
        for column, sums in sums_D.items():
            sums[place[name]] += getattr(part, column).sum()
    kl, agreement, gold = (
        bootstrap_ratio(sums, counts_D, resamples=resamples, seed=seed) for sums in sums_D.values()
    )
    return PairedSummary(kl, agreement, gold, int(counts_D.sum()), len(place))


def score_difference(
    dense: Sequence[float], other: Sequence[float], documents: Sequence[Hashable], *,
    resamples: int = RESAMPLES, seed: int = 0,
) -> Interval:  # fmt: skip
    """Mean difference of task scores, other minus dense, item by item, with its paired interval
    over documents.

    Args:
        dense: the dense model's scores, one per item.
        other: the other model's of the same items in the same order.
        documents: the document of each item.
        resamples: bootstrap resamples.
        seed: of the draws.

    Returns:
        The difference in the scores' unit; `n` counts documents.

    Raises:
        ValueError: not the same number of items.
    """
    if not len(dense) == len(other) == len(documents) or not len(dense):
        raise ValueError("paired scores need the same items on both sides, at least one")
    place = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    sums, counts = np.zeros(len(place)), np.zeros(len(place))
    for before, after, name in zip(dense, other, documents, strict=True):
        sums[place[name]] += after - before
        counts[place[name]] += 1
    return bootstrap_ratio(sums, counts, resamples=resamples, seed=seed)


def verdict(difference: Interval, claim: float) -> str:
    """Whether "the score falls by less than `claim`" is borne out.

    Args:
        difference: other minus dense, with its interval.
        claim: the loss that is said not to be exceeded, above 0, in the same unit.

    Returns:
        "holds" where the whole interval lies above -claim, "fails" where it lies below, and "not
        testable here" where it reaches over -claim, or rests on one document.

    Raises:
        ValueError: a claim of 0 or less.
    """
    if claim <= 0:
        raise ValueError(f"a claim is a loss above 0 that is not exceeded, got {claim}")
    if difference.n < 2:
        return "not testable here"
    if difference.low > -claim:
        return "holds"
    return "fails" if difference.high < -claim else "not testable here"
