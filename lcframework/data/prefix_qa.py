"""PrefixQA: one document, many questions, the case that a fixed context is made for (the set of
arXiv 2411.09688 was never published; this reads any of the same form)."""

from pathlib import Path
from typing import Any

from lcframework.data.generation import GenerationDataModule, GenerationItem
from lcframework.data.jsonl import read_jsonl
from lcframework.errors import DataError

SUITE = "prefix_qa"
INSTRUCTIONS = {
    "free": "Answer with a single phrase, without explanation.",
    "dialogue": "Answer in one or two sentences.",
    "multiple_choice": "Answer with the letter of the right option only.",
    "true_false": "Answer True or False only.",
}
"""By kind of question; the kind also says how answers are scored."""
MAX_NEW_TOKENS = {"free": 32, "dialogue": 64, "multiple_choice": 8, "true_false": 8}


def read_prefix_qa(path: str | Path) -> list[GenerationItem]:
    """Read JSON lines of documents.

    Each line has `doc_id`, `context` and `questions`, a list of objects with `question`, `answers`
    (a list of texts) and `kind`: free, dialogue, multiple_choice (options in the question's text,
    answers are letters) or true_false. A missing kind is free.

    Raises:
        DataError: no such file, another schema, a document twice.
    """
    items: list[GenerationItem] = []
    seen: set[str] = set()
    for where, row in read_jsonl(path):
        name, context, questions = row.get("doc_id"), row.get("context"), row.get("questions")
        if not (isinstance(name, str) and isinstance(context, str) and context.strip()):
            raise DataError(f"{where}: doc_id and context must be texts, context not empty.")
        if not isinstance(questions, list) or not questions:
            raise DataError(f"{where}: questions must be a list with at least one.")
        if name in seen:
            raise DataError(f"{where}: the doc_id {name!r} occurs twice.")
        seen.add(name)
        items += [_item(name, context, one, number, where) for number, one in enumerate(questions)]
    return items


def _item(name: str, context: str, given: Any, number: int, where: str) -> GenerationItem:
    place = f"{where}, question {number + 1}"
    if not isinstance(given, dict) or not isinstance(given.get("question"), str):
        raise DataError(f"{place}: an object with question, answers and kind is wanted.")
    answers, kind = given.get("answers"), given.get("kind", "free")
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        raise DataError(f"{place}: answers must be a list of texts.")
    if not answers:
        raise DataError(f"{place}: there is no answer to score against.")
    if kind not in INSTRUCTIONS:
        raise DataError(f"{place}: kind is {kind!r}, not one of {', '.join(INSTRUCTIONS)}.")
    return GenerationItem(
        suite=SUITE,
        task=kind,
        key=f"{name}/{number}",
        number=number,
        document=name,
        fixed=f"Read the document, then answer the question about it.\n\n{context}\n\n",
        question=f"{INSTRUCTIONS[kind]}\n\nQuestion: {given['question']}\nAnswer:",
        references=tuple(answers),
        max_new_tokens=MAX_NEW_TOKENS[kind],
    )


class PrefixQADataModule(GenerationDataModule):
    """Documents with many questions each, one question per batch.

    Args:
        path: a file of `read_prefix_qa`, plain or .gz, .xz, .zst.
        max_items: only the first so many questions of each kind; None: all.
    """

    def __init__(self, path: str | Path | None = None, max_items: int | None = None) -> None:
        super().__init__(path, max_items)

    def read(self) -> list[GenerationItem]:
        """The questions, document by document.

        Raises:
            DataError: no path, no such file, another schema.
        """
        if self.path is None:
            raise DataError("There are no documents: set data.path to a JSON-lines file.")
        return read_prefix_qa(self.path)
