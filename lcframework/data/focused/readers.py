"""Readers of QA data sets: JSON lines of one's own, QuALITY, Qasper."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lcframework.data.focused.example import QAExample, evidence_chunks
from lcframework.data.jsonl import read_jsonl
from lcframework.data.retrieval.chunkers import Chunker
from lcframework.errors import DataError

UNANSWERABLE = "Unanswerable"
LETTERS = "ABCDEFGH"


def read_custom(path: str | Path, chunker: Chunker) -> list[QAExample]:
    """JSON lines of `question`, `answers` (texts) and `document` (a text) or `documents` (texts,
    each one chunk); optionally `evidence`, a list of passages of the document, and `document_id`.

    Args:
        path: the file, plain or .gz, .xz, .zst.
        chunker: cuts a `document`.

    Raises:
        DataError: a line of another form, named by its number.
    """
    examples = []
    for number, (where, row) in enumerate(read_jsonl(path)):
        if ("document" in row) == ("documents" in row):
            raise DataError(f"{where}: give either document (a text) or documents (a list).")
        if "documents" in row:
            document, chunks = _joined(_texts(row, "documents", where))
        else:
            document = _text(row, "document", where)
            chunks = chunker(document)
        evidence = _texts(row, "evidence", where) if "evidence" in row else []
        examples.append(
            _checked(
                where,
                key=str(number),
                task="custom",
                question_id=str(number),
                document_id=str(row.get("document_id", number)),
                question=_text(row, "question", where),
                answers=tuple(_texts(row, "answers", where)),
                document=document,
                chunks=chunks,
                evidence=evidence_chunks(document, chunks, evidence),
            )
        )
    return examples


def read_quality(path: str | Path, chunker: Chunker) -> list[QAExample]:
    """QuALITY (Pang et al., NAACL 2022), JSON lines of v1.0.1: `article_id`, `article`,
    `questions` of `question`, `options` and `gold_label`, which counts from 1.

    The answer is the right option's letter. Where `difficult` is known, questions are reported as
    "quality hard" (1) and "quality easy" (0), otherwise as "quality".

    Raises:
        DataError: another schema, an option index that does not exist, a hidden label.
    """
    examples: list[QAExample] = []
    seen: dict[str, int] = {}
    for where, row in read_jsonl(path):
        article, name = _text(row, "article", where), str(row.get("article_id"))
        chunks = chunker(article)
        for given in _list(row, "questions", where):
            number = seen[name] = seen.get(name, -1) + 1
            place = f"{where}, question {number + 1}"
            options = tuple(_texts(given, "options", place))
            gold = given.get("gold_label")
            if not isinstance(gold, int) or not 1 <= gold <= min(len(options), len(LETTERS)):
                raise DataError(
                    f"{place}: gold_label is {gold!r}; it counts from 1 to {len(options)}, the "
                    "number of options. (The labels of the official test file are hidden.)"
                )
            hard = {1: " hard", 0: " easy"}.get(given.get("difficult"), "")  # type: ignore[arg-type]
            examples.append(
                _checked(
                    place,
                    key=f"{name}/{number}",
                    task=f"quality{hard}",
                    question_id=f"{name}/{number}",
                    document_id=name,
                    question=_text(given, "question", place),
                    answers=(LETTERS[gold - 1],),
                    document=article,
                    chunks=chunks,
                    options=options,
                )
            )
    return examples


def read_qasper(
    path: str | Path, training: bool, chunker: Chunker | None = None
) -> list[QAExample]:
    """Qasper (Dasigi et al., NAACL 2021), the official JSON of one split.

    Chunks are the paper's paragraphs (its evidence units), the abstract first. Reference texts are
    made as in `qasper_evaluator.py` of allenai/qasper-led-baseline.

    Args:
        path: the split's JSON.
        training: one example per reference answer; otherwise one per question with all of them
            (the reader of the baseline does the same).
        chunker: cuts the joined paper instead.

    Raises:
        DataError: another schema.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Check the spelling of its path.")
    try:
        papers = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}): download it again.") from error
    if not isinstance(papers, dict):
        raise DataError(f"{path}: an object of papers by id is wanted, as published.")
    examples: list[QAExample] = []
    for paper, content in papers.items():
        where = f"{path}, paper {paper}"
        document, chunks = _joined(_paragraphs(content, where))
        if chunker is not None:
            chunks = chunker(document)
        for given in _list(content, "qas", where):
            name = f"{paper}/{given.get('question_id', len(examples))}"
            place = f"{where}, question {given.get('question_id')}"
            references = [_qasper_answer(one.get("answer"), place)
                          for one in _list(given, "answers", place)]  # fmt: skip
            groups = [[one] for one in references] if training else [references]
            for number, group in enumerate(groups):
                examples.append(
                    _checked(
                        place,
                        key=f"{name}/{number}" if training else name,
                        task="qasper",
                        question_id=name,
                        document_id=str(paper),
                        question=_text(given, "question", place),
                        answers=tuple(text for text, _ in group),
                        document=document,
                        chunks=chunks,
                        evidence=evidence_chunks(
                            document, chunks, [one for _, texts in group for one in texts]
                        ),
                    )
                )
    return examples


def _paragraphs(content: dict[str, Any], where: str) -> list[str]:
    paragraphs = [str(content.get("abstract") or "")]
    for section in _list(content, "full_text", where):
        paragraphs += [one for one in section.get("paragraphs") or () if isinstance(one, str)]
    return [one for one in paragraphs if one.strip()]


def _qasper_answer(answer: Any, where: str) -> tuple[str, list[str]]:
    """The reference text and its evidence paragraphs."""
    if not isinstance(answer, dict):
        raise DataError(f"{where}: an answer is no object.")
    evidence = [one for one in answer.get("evidence") or () if isinstance(one, str)]
    if answer.get("unanswerable"):
        return UNANSWERABLE, evidence
    if answer.get("extractive_spans"):
        return ", ".join(answer["extractive_spans"]), evidence
    if answer.get("free_form_answer"):
        return answer["free_form_answer"], evidence
    if answer.get("yes_no") is not None:
        return ("Yes" if answer["yes_no"] else "No"), evidence
    raise DataError(f"{where}: the answer is neither text, yes or no, nor unanswerable.")


def _joined(texts: list[str], between: str = "\n\n") -> tuple[str, tuple[tuple[int, int], ...]]:
    """The texts as one document, and the range of each."""
    spans, at = [], 0
    for text in texts:
        spans.append((at, at + len(text)))
        at += len(text) + len(between)
    return between.join(texts), tuple(spans)


def _checked(where: str, **values: Any) -> QAExample:
    try:
        return QAExample(**values)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _text(row: dict[str, Any], name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise DataError(f"{where}: {name} must be a text.")
    return row[name]


def _texts(row: dict[str, Any], name: str, where: str) -> list[str]:
    given = row.get(name)
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given) or not given:
        raise DataError(f"{where}: {name} must be a list of texts with at least one.")
    return given


def _list(row: Any, name: str, where: str) -> Iterator[dict[str, Any]]:
    given = row.get(name) if isinstance(row, dict) else None
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise DataError(f"{where}: {name} must be a list of objects.")
    return iter(given)
