"""Retrieval of a whole split: what is kept of each document, cached on disk, with its recall."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcframework.data.focused.example import QAExample
from lcframework.data.retrieval.retrievers import Retriever
from lcframework.data.store_build import STORES_VARIABLE, default_stores_root
from lcframework.errors import DataError
from lcframework.files import write_json

log = logging.getLogger(__name__)
ON_MISS = ("keep", "union", "drop")
RECALL_AT = (1, 3, 5, 10)


def default_cache() -> Path:
    """`retrieval` in the folder of the token stores."""
    return default_stores_root() / "retrieval"


@dataclass(frozen=True)
class Kept:
    """What retrieval decided for one question.

    Attributes:
        chunks: indices of the chunks that stay, ascending.
        contrast: whether the pair of views takes part in the contrastive loss.
    """

    chunks: tuple[int, ...]
    contrast: bool


@dataclass(frozen=True)
class Retrieval:
    """The rule that makes the focused view.

    Attributes:
        retriever: ranks the chunks.
        top_k: so many stay.
        on_miss: where evidence is known and not all of it is among the k: "keep" the pair as it is,
            make the "union" of both, or "drop" the pair from the contrastive loss (it still trains
            the language model).
        cache_dir: folder of the cache; None: `default_cache`.

    A document of k chunks or fewer has two equal views: its pair is dropped and counted. So is one
    of which the retriever ranks no chunk: it is kept whole.

    Raises:
        ValueError: k below 1 or an unknown rule.
    """

    retriever: Retriever
    top_k: int = 3
    on_miss: str = "keep"
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.on_miss not in ON_MISS:
            raise ValueError(f"on_miss={self.on_miss!r} is unknown: choose one of {ON_MISS}")

    @property
    def keeps_all(self) -> bool:
        """Whether the focused view is always the original."""
        return bool(getattr(self.retriever, "keeps_all", False))

    def rankings(self, examples: Sequence[QAExample]) -> list[list[int]]:
        """The ranking of each example, from the cache if it is there.

        Raises:
            DataError: the cache is damaged or cannot be written.
        """
        digest = hashlib.sha256(self.retriever.identity.encode())
        for one in examples:
            content = (one.question_id, one.question, one.document, one.chunks, one.evidence)
            digest.update(repr(content).encode())
        folder = Path(self.cache_dir) if self.cache_dir else default_cache()
        path = folder / f"{digest.hexdigest()[:32]}.json"
        if path.is_file():
            return _read(path, len(examples))
        found = [self.retriever.rank(one) for one in examples]
        try:
            write_json(path, {"retriever": self.retriever.identity, "rankings": found})
        except OSError as error:
            raise DataError(
                f"The retrieval cannot be cached in {folder} ({error}): name another folder in "
                f"{STORES_VARIABLE} or data.retrieval.cache_dir."
            ) from error
        return found

    def __call__(self, examples: Sequence[QAExample]) -> tuple[list[Kept], dict[str, Any]]:
        """What stays of each document, and counts for the record.

        Returns:
            One `Kept` per example; and `questions`, `short` (documents of k chunks or fewer),
            `missed` (questions whose known evidence is not all among the k), `unranked` (documents
            kept whole), `dropped` pairs, `with_evidence`, and `recall@K`, the mean share of
            evidence chunks among the first K.
        """
        rankings = self.rankings(examples)
        kept, counts = [], {"questions": len(examples), "short": 0, "missed": 0,
                        "unranked": 0, "dropped": 0}  # fmt: skip
        for one, ranking in zip(examples, rankings, strict=True):
            whole = self.keeps_all or not ranking
            chunks = set(range(len(one.chunks)) if whole else ranking[: self.top_k])
            short = not whole and len(one.chunks) <= self.top_k
            unranked = whole and not self.keeps_all
            missed = not chunks >= set(one.evidence)
            if missed and self.on_miss == "union":
                chunks |= set(one.evidence)
            drop = short or unranked or (missed and self.on_miss == "drop")
            counts["short"] += short
            counts["missed"] += missed
            counts["unranked"] += unranked
            counts["dropped"] += drop
            kept.append(Kept(tuple(sorted(chunks)), not drop))
        return kept, {**counts, **recall(examples, rankings)}


def recall(examples: Sequence[QAExample], rankings: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Mean share of the evidence chunks among the first K of the ranking, over the questions whose
    evidence is known (`with_evidence`); no `recall@K` without any."""
    pairs = [
        (set(one.evidence), ranking)
        for one, ranking in zip(examples, rankings, strict=True)
        if one.evidence
    ]
    found: dict[str, Any] = {"with_evidence": len(pairs)}
    for k in RECALL_AT if pairs else ():
        shares = [len(wanted & set(ranking[:k])) / len(wanted) for wanted, ranking in pairs]
        found[f"recall@{k}"] = sum(shares) / len(shares)
    return found


def _read(path: Path, n: int) -> list[list[int]]:
    try:
        found = json.loads(path.read_text())["rankings"]
        if len(found) != n:
            raise ValueError(f"{len(found)} rankings of {n} questions")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: the cached retrieval is damaged ({error}): delete it.") from error
    return found
