"""Documents with many questions each, for models that read a document once: JSON lines in, one
document a batch out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lcframework.data.fasta_files import read_chunks
from lcframework.errors import DataError

BLOCK = 1 << 20


@dataclass(frozen=True)
class FixedContextQueries:
    """A document and Q questions about it: the batch of squeezed attention. No tensors: the task
    makes tokens of it, because the border between document and question is the task's.

    Attributes:
        document_id: name of the document, unique in its file.
        document: its text, the part that stays.
        questions: Q texts.
        references: for each question the accepted answers, possibly none.
    """

    document_id: str
    document: str
    questions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "FixedContextQueries":
        """The same; Lightning asks every batch to move."""
        return self


class _Documents(Dataset[FixedContextQueries]):
    def __init__(self, rows: Sequence[FixedContextQueries]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> FixedContextQueries:
        return self.rows[index]


def read_fixed_contexts(path: str | Path) -> list[FixedContextQueries]:
    """Read a JSON-lines file, plain or compressed (.gz, .xz, .zst).

    Each line is an object with `context` (or `document`), `questions`, a list of texts or of
    objects with `question` and `answers`, and if wanted `doc_id`.

    Raises:
        DataError: no such file, a line that is no such object, a document name twice, no line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; data.path must name a JSON-lines file.")
    content = b"".join(chunk for chunk, _ in read_chunks(path, BLOCK))
    rows: list[FixedContextQueries] = []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            rows.append(_row(line, f"{path}, line {number}", number))
    if not rows:
        raise DataError(f"{path} is empty: there is no document to read.")
    names = [row.document_id for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: doc_id {twice[0]!r} occurs twice; answers are told by it.")
    return rows


def _row(line: bytes, where: str, number: int) -> FixedContextQueries:
    try:
        given: Any = json.loads(line)
        document = given["context"] if "context" in given else given["document"]
        questions, references = [], []
        for one in given["questions"]:
            text, answers = (one, ()) if isinstance(one, str) else (one["question"], one["answers"])
            questions.append(text)
            references.append((answers,) if isinstance(answers, str) else tuple(answers))
        texts = [document, *questions, *(answer for some in references for answer in some)]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("document, questions and answers must be texts")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: not an object with 'context' and 'questions' ({error}). A question is a "
            "text, or an object with 'question' and 'answers'."
        ) from error
    if not document.strip() or not questions:
        raise DataError(f"{where}: the document is empty or has no questions.")
    name = str(given.get("doc_id", f"line {number}"))
    return FixedContextQueries(name, document, tuple(questions), tuple(references))


class FixedContextDataModule(LightningDataModule):
    """One document with its questions per batch, for testing and predicting.

    Args:
        path: a file of `read_fixed_contexts`; None where another stage does not need it.
        max_documents: only the first so many; None: all.
        max_questions: only the first so many of each document; None: all.

    Raises:
        ValueError: a limit below 1.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        max_documents: int | None = None,
        max_questions: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("max_documents", max_documents), ("max_questions", max_questions)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.path = path
        self.inputs = {"test": path}
        self.max_documents = max_documents
        self.max_questions = max_questions
        self.rows: list[FixedContextQueries] = []

    def setup(self, stage: str | None = None) -> None:
        """Read the file.

        Raises:
            DataError: none was given, or it is malformed.
        """
        if self.path is None:
            raise DataError("There are no documents: set data.path to a JSON-lines file.")
        most = self.max_questions
        self.rows = [
            FixedContextQueries(
                row.document_id, row.document, row.questions[:most], row.references[:most]
            )
            for row in read_fixed_contexts(self.path)[: self.max_documents]
        ]

    def test_dataloader(self) -> DataLoader:
        """Loader of `FixedContextQueries`, in file order."""
        return DataLoader(_Documents(self.rows), batch_size=1, collate_fn=_the_only_one)

    def predict_dataloader(self) -> DataLoader:
        """Loader of `FixedContextQueries`, in file order."""
        return self.test_dataloader()

    def fingerprint(self, split: str) -> dict[str, Any]:
        """What `results.json` records: `path`, `fingerprint` of what was read, `n` documents,
        `questions`."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(repr(row).encode())
        return {
            "path": str(self.path),
            "fingerprint": digest.hexdigest(),
            "n": len(self.rows),
            "questions": sum(len(row.questions) for row in self.rows),
        }


def _the_only_one(rows: list[FixedContextQueries]) -> FixedContextQueries:
    return rows[0]
