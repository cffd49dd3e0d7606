"""A question about a document that is cut into chunks: what every reader of a data set gives."""

from dataclasses import dataclass

from lcframework.errors import DataError

Span = tuple[int, int]


@dataclass(frozen=True)
class QAExample:
    """One question, or in training one question and one of its reference answers.

    Attributes:
        key: name, unique within the split.
        task: part of the data set that it is reported under.
        question_id: the same for all items of one question; such pairs are no negatives of each
            other.
        document_id: items of one document have the same.
        question: its text.
        answers: accepted answers, at least one; the first is the one trained on.
        document: the whole text.
        chunks: character ranges of `document`, in order; they may overlap.
        evidence: indices of the chunks that hold the answer's evidence; empty: not known.
        options: of a multiple-choice question.
        gold_option: index of the right one of `options`, from 0; None: not a choice.
        types: kind of each answer, where the data set has kinds; else empty.
        answer_evidence: the evidence texts of each answer; empty: none are known.
        units: character ranges in which predicted evidence is counted (Qasper's paragraphs).
        source: file and line that it comes from, for messages.

    Raises:
        DataError: an empty question, answer or document, or a chunk outside the document.
    """

    key: str
    task: str
    question_id: str
    document_id: str
    question: str
    answers: tuple[str, ...]
    document: str
    chunks: tuple[Span, ...]
    evidence: tuple[int, ...] = ()
    options: tuple[str, ...] = ()
    gold_option: int | None = None
    types: tuple[str, ...] = ()
    answer_evidence: tuple[tuple[str, ...], ...] = ()
    units: tuple[Span, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise DataError(f"{self.key}: the question is empty. Fill it in or remove it.")
        if not self.answers or not all(one.strip() for one in self.answers):
            raise DataError(
                f"{self.key}: there is no answer, or one of the answers is empty. Fill it in or "
                "remove it."
            )
        if not self.document.strip() or not self.chunks:
            raise DataError(
                f"{self.key}: the document is empty. Restore it or remove the question."
            )
        size = len(self.document)
        if any(not 0 <= start < end <= size for start, end in self.chunks):
            raise DataError(f"{self.key}: a chunk lies outside the document.")
        if any(not 0 <= one < len(self.chunks) for one in self.evidence):
            raise DataError(f"{self.key}: evidence names a chunk that is not there.")

    @property
    def chunk_texts(self) -> list[str]:
        """The text of every chunk."""
        return [self.document[start:end] for start, end in self.chunks]


def evidence_chunks(document: str, chunks: tuple[Span, ...], texts: list[str]) -> tuple[int, ...]:
    """Indices of the chunks that overlap one of the evidence texts; texts that the document does
    not hold (figures and tables) are passed over."""
    found: set[int] = set()
    for text in texts:
        at = document.find(text.strip()) if text.strip() else -1
        if at >= 0:
            end = at + len(text.strip())
            found |= {n for n, (low, high) in enumerate(chunks) if low < end and at < high}
    return tuple(sorted(found))
