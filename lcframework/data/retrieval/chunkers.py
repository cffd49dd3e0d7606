"""Chunkers: a document to character ranges. A chunker is called with a text and has an `identity`,
which goes into the cache's key."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Span = tuple[int, int]
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
WORD = re.compile(r"\S+")


class Chunker(Protocol):
    """Anything that cuts a document."""

    @property
    def identity(self) -> str:
        """Name and settings."""
        ...

    def __call__(self, text: str) -> tuple[Span, ...]:
        """Character ranges in order, none empty, that hold every character but white space."""
        ...


def _pieces(text: str, breaks: re.Pattern[str]) -> list[Span]:
    """What lies between the breaks, without white space around it."""
    spans, start = [], 0
    borders = [*(match.span() for match in breaks.finditer(text)), (len(text), len(text))]
    for low, high in borders:
        piece = text[start:low]
        if piece.strip():
            left = start + len(piece) - len(piece.lstrip())
            spans.append((left, start + len(piece.rstrip())))
        start = high
    return spans


@dataclass(frozen=True)
class Paragraphs:
    """Paragraphs, short ones joined with the next, long ones cut.

    Attributes:
        min_words: a chunk has at least so many words (the last may have fewer).
        separator: regular expression between paragraphs.
        max_words: longer chunks are cut into windows of so many words; None: never.
    """

    min_words: int = 1
    separator: str = r"\n\s*\n"
    max_words: int | None = None

    def __post_init__(self) -> None:
        if self.min_words < 1:
            raise ValueError(f"min_words must be at least 1, got {self.min_words}")
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words={self.max_words} is less than min_words={self.min_words}")

    @property
    def identity(self) -> str:
        """Name and settings."""
        return repr(self)

    def __call__(self, text: str) -> tuple[Span, ...]:
        """Ranges of the paragraphs."""
        chunks: list[Span] = []
        words = self.min_words  # so that the first paragraph opens a chunk
        for low, high in _pieces(text, re.compile(self.separator)):
            own = len(WORD.findall(text, low, high))
            if words < self.min_words:
                chunks[-1] = (chunks[-1][0], high)
                words += own
            else:
                chunks.append((low, high))
                words = own
        if self.max_words is None:
            return tuple(chunks)
        return tuple(one for span in chunks for one in _cut_words(text, span, self.max_words))


@dataclass(frozen=True)
class SentenceWindows:
    """So many sentences each.

    Attributes:
        sentences: of a chunk.
        overlap: sentences that a chunk shares with the one before it.
    """

    sentences: int = 5
    overlap: int = 0

    def __post_init__(self) -> None:
        _check_overlap(self.sentences, self.overlap)

    @property
    def identity(self) -> str:
        """Name and settings."""
        return repr(self)

    def __call__(self, text: str) -> tuple[Span, ...]:
        """Ranges of the windows."""
        return _windows(_pieces(text, SENTENCE_END), self.sentences, self.overlap)


@dataclass(frozen=True)
class WordWindows:
    """So many white-space separated words each; the tokens of no model, so that a cached retrieval
    serves all models.

    Attributes:
        words: of a chunk (the passages of "Lost in the Middle" have about 100).
        overlap: words that a chunk shares with the one before it.
    """

    words: int = 100
    overlap: int = 0

    def __post_init__(self) -> None:
        _check_overlap(self.words, self.overlap)

    @property
    def identity(self) -> str:
        """Name and settings."""
        return repr(self)

    def __call__(self, text: str) -> tuple[Span, ...]:
        """Ranges of the windows."""
        words = [match.span() for match in WORD.finditer(text)]
        return _windows(words, self.words, self.overlap)


@dataclass(frozen=True)
class TokenWindows:
    """So many of a model's tokens each.

    Attributes:
        tokenizer: a text to the character range of each token, with an `identity`; such as
            `lcframework.models.llm.token_spans.TokenSpans`.
        tokens: of a chunk.
        overlap: tokens that a chunk shares with the one before it.
    """

    tokenizer: Callable[[str], Sequence[Span]]
    tokens: int = 128
    overlap: int = 0

    def __post_init__(self) -> None:
        _check_overlap(self.tokens, self.overlap)

    @property
    def identity(self) -> str:
        """Name, settings and the tokenizer's identity."""
        who = self.tokenizer.identity  # type: ignore[attr-defined]
        return f"TokenWindows({who}, {self.tokens}, {self.overlap})"

    def __call__(self, text: str) -> tuple[Span, ...]:
        """Ranges of the windows; tokens of nothing but white space count as none."""
        units = [(low, high) for low, high in self.tokenizer(text) if text[low:high].strip()]
        return _windows(units, self.tokens, self.overlap)


def _cut_words(text: str, span: Span, most: int) -> tuple[Span, ...]:
    """A range in windows of so many words."""
    words = [match.span() for match in WORD.finditer(text, *span)]
    return _windows(words, most, 0)


def _check_overlap(size: int, overlap: int) -> None:
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"a window needs 1 or more and an overlap below it: {size}, {overlap}")


def _windows(units: list[Span], size: int, overlap: int) -> tuple[Span, ...]:
    chunks: list[Span] = []
    for first in range(0, len(units), size - overlap):
        last = min(first + size, len(units)) - 1
        chunks.append((units[first][0], units[last][1]))
        if last == len(units) - 1:
            break
    return tuple(chunks)
