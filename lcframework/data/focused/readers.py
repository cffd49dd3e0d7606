"""Readers of QA data sets in JSON lines: those of one's own, QuALITY."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lcframework.data.focused.example import QAExample, evidence_chunks
from lcframework.data.focused.rows import checked, joined, objects_of, text_of, texts_of
from lcframework.data.jsonl import read_jsonl
from lcframework.data.retrieval.chunkers import Chunker
from lcframework.errors import DataError

LETTERS = "ABCDEFGH"


def read_custom(
    path: str | Path, chunker: Chunker, task: str = "custom", each_reference: bool = False
) -> list[QAExample]:
    """JSON lines of `question`, `answers` (texts) and `document` (a text) or `documents` (texts,
    each one chunk); optionally `evidence`, a list of passages of the document, and `document_id`.
    Of a document with many questions, `questions` is a list of objects with the first two and
    `evidence`.

    Args:
        path: the file, plain or .gz, .xz, .zst.
        chunker: cuts a `document`.
        task: what the questions are reported under.
        each_reference: one example per reference answer; otherwise one per question.

    Raises:
        DataError: a line of another form, named by its number.
    """
    examples = []
    for number, (where, row) in enumerate(read_jsonl(path)):
        if ("document" in row) == ("documents" in row):
            raise DataError(f"{where}: give either document (a text) or documents (a list).")
        if "documents" in row:
            document, chunks = joined(texts_of(row, "documents", where))
        else:
            document = text_of(row, "document", where)
            chunks = chunker(document)
        name = str(row.get("document_id", row.get("doc_id", number)))
        for key, place, given in _questions(row, number, where):
            evidence = texts_of(given, "evidence", place) if "evidence" in given else []
            answers = tuple(texts_of(given, "answers", place))
            groups = [(one,) for one in answers] if each_reference else [answers]
            for n, group in enumerate(groups):
                examples.append(
                    checked(
                        place,
                        key=f"{key}/{n}" if each_reference else key,
                        task=task,
                        question_id=key,
                        document_id=name,
                        question=text_of(given, "question", place),
                        answers=group,
                        document=document,
                        chunks=chunks,
                        evidence=evidence_chunks(document, chunks, evidence),
                    )
                )
    return examples


def _questions(
    row: dict[str, Any], number: int, where: str
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Key, place and fields of every question of a line."""
    if "questions" not in row:
        yield str(number), where, row
        return
    for n, given in enumerate(objects_of(row, "questions", where)):
        yield f"{number}/{n}", f"{where}, question {n + 1}", given


def read_quality(path: str | Path, chunker: Chunker, answer: str = "letter") -> list[QAExample]:
    """QuALITY (Pang et al., NAACL 2022), JSON lines of v1.0.1: `article_id`, `article`,
    `questions` of `question`, `options` and `gold_label`, which counts from 1.

    Where `difficult` is known, questions are reported as "quality hard" (1) and "quality easy" (0),
    otherwise as "quality".

    Args:
        path: the file, plain or .gz, .xz, .zst.
        chunker: cuts the articles.
        answer: what answers are: the right option's "letter" or its "text" (as in SCROLLS).

    Raises:
        DataError: another schema, an option index that does not exist, a hidden label.
    """
    examples: list[QAExample] = []
    seen: dict[str, int] = {}
    for where, row in read_jsonl(path):
        article, name = text_of(row, "article", where), str(row.get("article_id"))
        chunks = chunker(article)
        for n, given in enumerate(objects_of(row, "questions", where), 1):
            number = seen[name] = seen.get(name, -1) + 1
            place = f"{where}, question {n}"
            options = tuple(texts_of(given, "options", place))
            if not all(one.strip() for one in options):
                raise DataError(f"{place}: one of the options is empty. Restore the official file.")
            gold = _gold(given.get("gold_label"), len(options), place)
            hard = {1: " hard", 0: " easy"}.get(given.get("difficult"), "")  # type: ignore[arg-type]
            examples.append(
                checked(
                    place,
                    key=f"{name}/{number}",
                    task=f"quality{hard}",
                    question_id=f"{name}/{number}",
                    document_id=name,
                    question=text_of(given, "question", place),
                    answers=(LETTERS[gold] if answer == "letter" else options[gold],),
                    document=article,
                    chunks=chunks,
                    options=options,
                    gold_option=gold,
                )
            )
    return examples


def _gold(label: Any, options: int, place: str) -> int:
    """The right option, counted from 0."""
    most = min(options, len(LETTERS))
    if type(label) is not int or not 1 <= label <= most:
        raise DataError(
            f"{place}: gold_label is {label!r}; it counts from 1 to {most}, the number of options. "
            "Raise labels that count from 0 by one. (Those of the official test file are hidden: "
            "test on the development file.)"
        )
    return label - 1
