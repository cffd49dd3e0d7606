"""Paired comparisons as sums: what is kept of an answer's tokens on disk, and how sums of many
answers become means with intervals."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lcframework.scoring.intervals import RESAMPLES, Interval, bootstrap_ratio
from lcframework.scoring.paired import PairedSummary, PairedTokens


@dataclass(frozen=True)
class PairedSums:
    """A `PairedTokens` summed up.

    Attributes:
        tokens: pairs.
        kl: sum of KL(dense || other), nats.
        agree: tokens with the same most likely token.
        gold: sum of the differences of log-likelihood, other minus dense, nats.
    """

    tokens: int
    kl: float
    agree: int
    gold: float

    @classmethod
    def of(cls, part: PairedTokens) -> "PairedSums":
        """Sum up."""
        return cls(
            len(part), float(part.kl_T.sum()), int(part.agree_T.sum()), float(part.gold_T.sum())
        )

    def as_dict(self) -> dict[str, float | int]:
        """Plain values for JSON."""
        return asdict(self)


def summarize_sums(
    parts: Sequence[PairedSums | Mapping[str, Any]], documents: Sequence[Hashable], *,
    resamples: int = RESAMPLES, seed: int = 0,
) -> PairedSummary:  # fmt: skip
    """As `paired.summarize`, of sums: means over tokens, the bootstrap over whole documents.

    Args:
        parts: one per answer, or what `as_dict` made of it.
        documents: the document that each belongs to.
        resamples: bootstrap resamples.
        seed: of the draws.

    Raises:
        ValueError: none, not one document for each, or a sum that is not finite.
    """
    if not parts or len(parts) != len(documents):
        raise ValueError(f"{len(parts)} comparisons and {len(documents)} documents: one for each")
    rows = [one.as_dict() if isinstance(one, PairedSums) else one for one in parts]
    place = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    sums = {name: [0.0] * len(place) for name in ("tokens", "kl", "agree", "gold")}
    for row, document in zip(rows, documents, strict=True):
        for name, column in sums.items():
            column[place[document]] += row[name]
    kl, agreement, gold = (
        bootstrap_ratio(sums[name], sums["tokens"], resamples=resamples, seed=seed)
        for name in ("kl", "agree", "gold")
    )
    return PairedSummary(kl, agreement, gold, int(sum(sums["tokens"])), len(place))


def mean_over_documents(
    values: Sequence[float], documents: Sequence[Hashable], *, resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """Mean over answers with its interval over whole documents; `n` counts documents.

    Raises:
        ValueError: none, or not one document for each.
    """
    if not len(values) or len(values) != len(documents):
        raise ValueError(f"{len(values)} values and {len(documents)} documents: one for each")
    place = {name: number for number, name in enumerate(dict.fromkeys(documents))}
    sums, counts = [0.0] * len(place), [0] * len(place)
    for value, document in zip(values, documents, strict=True):
        sums[place[document]] += value
        counts[place[document]] += 1
    return bootstrap_ratio(sums, counts, resamples=resamples, seed=seed)
