"""Retrievers: the chunks of one document ranked for one question. Each has an `identity`, which
goes into the cache's key."""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import bm25s
import numpy as np
from numpy.typing import NDArray

from lcframework.data.focused.example import QAExample
from lcframework.errors import DataError

# The library reports each index it builds: here one per document.
logging.getLogger("bm25s").setLevel(logging.WARNING)


class Retriever(Protocol):
    """Anything that ranks chunks."""

    @property
    def identity(self) -> str:
        """Name and settings, equal only if the ranking is."""
        ...

    def rank(self, example: QAExample) -> list[int]:
        """Indices of chunks, the best first; all of them, or those that it would ever keep."""
        ...


class BM25Index:
    """BM25 scores of fixed texts (Robertson; Lucene's variant, of the package bm25s).

    Args:
        texts: at least one.
        stopwords: language code of the words left out; None: none.
    """

    def __init__(self, texts: Sequence[str], stopwords: str | None = "en") -> None:
        self._stopwords, self.n = stopwords, len(texts)
        words = self._words(list(texts))
        # Texts of nothing but stop words have no term to index: every score is then 0.
        self._index = None
        if any(words):
            self._index = bm25s.BM25()
            self._index.index(words, show_progress=False)

    def _words(self, texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(
            texts, stopwords=self._stopwords or [], return_ids=False, show_progress=False
        )  # type: ignore[return-value]

    def scores(self, query: str) -> NDArray[np.float64]:
        """(n,) scores of the texts; 0 where they share no word with the query."""
        (words,) = self._words([query])
        if self._index is None or not words:
            return np.zeros(self.n)
        return np.asarray(self._index.get_scores(words), np.float64)


def best_first(scores: NDArray[np.floating]) -> list[int]:
    """Indices by falling score; ties in their own order."""
    return np.argsort(-scores, kind="stable").tolist()


@dataclass(frozen=True)
class BM25:
    """BM25 over the chunks of the question's own document.

    Attributes:
        stopwords: language code of the words left out; None: none.
    """

    stopwords: str | None = "en"

    @property
    def identity(self) -> str:
        """Name, settings and the version of the library."""
        return f"{self!r} bm25s {bm25s.__version__}"

    def rank(self, example: QAExample) -> list[int]:
        """All chunks."""
        index = BM25Index(example.chunk_texts, self.stopwords)
        return best_first(index.scores(example.question))


@dataclass(frozen=True)
class Dense:
    """Cosine of sentence embeddings. Questions about one document share its chunks' embeddings.

    Attributes:
        encoder: texts to (n, width) rows of norm 1, with an `identity`; such as
            `lcframework.models.llm.sentence_encoder.SentenceEncoder`.
    """

    encoder: Callable[[list[str]], NDArray[np.float32]]
    _last: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """The encoder's."""
        return f"Dense({self.encoder.identity})"  # type: ignore[attr-defined]

    def rank(self, example: QAExample) -> list[int]:
        """All chunks."""
        texts = example.chunk_texts
        if self._last[:1] != [texts]:
            self._last[:] = [texts, self.encoder(texts)]
        return best_first(self._last[1] @ self.encoder([example.question])[0])


@dataclass(frozen=True)
class Oracle:
    """The chunks that hold the evidence, and only those.

    Attributes:
        unknown: of a question without evidence, such as one that the document does not answer:
            "refuse", or keep the "whole" document, whose pair is then left out of the contrast.

    Raises:
        ValueError: another word.
    """

    unknown: str = "refuse"

    def __post_init__(self) -> None:
        if self.unknown not in ("refuse", "whole"):
            raise ValueError(f"unknown={self.unknown!r}: choose refuse or whole")

    @property
    def identity(self) -> str:
        """Name."""
        return repr(self)

    def rank(self, example: QAExample) -> list[int]:
        """The evidence; nothing where there is none and the whole document is to be kept.

        Raises:
            DataError: it is not known.
        """
        if not example.evidence and self.unknown == "refuse":
            raise DataError(
                f"{example.source or example.key} has no evidence, which the oracle retriever "
                "keeps: choose another data.retrieval.retriever, or its unknown=whole to keep such "
                "a document whole."
            )
        return list(example.evidence)


@dataclass(frozen=True)
class Random:
    """A random order, the same for the same question.

    Attributes:
        seed: of the draws.
    """

    seed: int = 0

    @property
    def identity(self) -> str:
        """Name and seed."""
        return repr(self)

    def rank(self, example: QAExample) -> list[int]:
        """All chunks."""
        order = list(range(len(example.chunks)))
        random.Random(f"{self.seed}/{example.question_id}").shuffle(order)
        return order


@dataclass(frozen=True)
class Everything:
    """No retrieval: every chunk is kept, the focused view is the original."""

    keeps_all: bool = field(default=True, init=False)

    @property
    def identity(self) -> str:
        """Name."""
        return repr(self)

    def rank(self, example: QAExample) -> list[int]:
        """All chunks in order."""
        return list(range(len(example.chunks)))
