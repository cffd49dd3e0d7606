"""NQd: open questions of Natural Questions among passages that do not answer them.

The gold passage stands at a chosen place among k - 1 distractors, which are drawn from a pool and
hold none of the answers, as in "Lost in the Middle" (Liu et al., TACL 2024; nelson-liu/
lost-in-the-middle), whose prompt lines are used. Splits share no question, page title or passage.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcframework.data.focused.example import QAExample
from lcframework.data.jsonl import read_jsonl
from lcframework.data.retrieval.retrievers import BM25Index, best_first
from lcframework.errors import DataError

SPLITS = ("train", "valid", "test")
NO_ANSWER = "Not answered by the documents."


@dataclass(frozen=True)
class Passage:
    """A page's title and about 100 words of it."""

    title: str
    text: str


@dataclass(frozen=True)
class NQQuestion:
    """A question with its gold passage; `source` is the file and line that it comes from."""

    name: str
    question: str
    answers: tuple[str, ...]
    gold: Passage
    source: str = ""


def read_nq(questions: str | Path, passages: str | Path) -> tuple[list[NQQuestion], list[Passage]]:
    """Read questions (`id`, `question`, `answers`, `ctxs` of `title`, `text`, `isgold`; rows of
    `nq-open-oracle` as released) and the pool: `title`, `text`, or `ctxs` of these as in the
    released files, of which each passage is taken once.

    Raises:
        DataError: another schema; not exactly one gold passage; an empty question, answer or text.
    """
    found = []
    for number, (where, row) in enumerate(read_jsonl(questions)):
        gold = [one for one in row.get("ctxs") or () if one.get("isgold")]
        if len(gold) != 1:
            raise DataError(
                f"{where}: {len(gold)} of its ctxs are gold (isgold) where one is wanted. Mark the "
                "passage that answers the question."
            )
        answers = row.get("answers")
        if not isinstance(row.get("question"), str) or not row["question"].strip():
            raise DataError(
                f"{where}: question must be a text that is not empty. Fill it in or remove it."
            )
        texts = tuple(str(one) for one in answers) if isinstance(answers, list) else ()
        if not texts or not all(one.strip() for one in texts):
            raise DataError(
                f"{where}: answers must be a list of texts, at least one and none empty. Fill them "
                "in or remove the line."
            )
        name = str(row.get("id", number))
        found.append(NQQuestion(name, row["question"], texts, _passage(gold[0], where), where))
    pool: dict[Passage, None] = {}
    for where, row in read_jsonl(passages):
        for one in row["ctxs"] if isinstance(row.get("ctxs"), list) else [row]:
            pool[_passage(one, where)] = None
    return found, list(pool)


def _passage(row: Any, where: str) -> Passage:
    given = row if isinstance(row, dict) else {}
    if not all(isinstance(given.get(one), str) and given[one].strip() for one in ("title", "text")):
        raise DataError(f"{where}: a passage needs title and text, both texts and not empty.")
    return Passage(row["title"], row["text"])


def split_by_title(
    questions: Sequence[NQQuestion], pool: Sequence[Passage], sizes: Sequence[int], seed: int
) -> dict[str, tuple[list[NQQuestion], list[Passage]]]:
    """Share questions and pool among the splits, all of a page's on one side, and all pages on one
    side that share a question or a passage.

    Args:
        questions: of all splits.
        pool: passages; those of a page without a question are shared in proportion.
        sizes: questions of train, valid and test.
        seed: of the draw.

    Raises:
        DataError: there are fewer questions than wanted.
    """
    if sum(sizes) > len(questions):
        raise DataError(f"{len(questions)} questions cannot be split into {list(sizes)}.")
    page = _linked_pages(questions, pool)
    pages: dict[str, list[NQQuestion]] = {}
    for one in questions:
        pages.setdefault(page[one.gold.title], []).append(one)
    titles = sorted(pages)
    draw = random.Random(seed)
    draw.shuffle(titles)
    titles.sort(key=lambda title: -len(pages[title]))  # large ones first: single ones fill up
    parts: dict[str, list[NQQuestion]] = {name: [] for name in SPLITS}
    side: dict[str, str] = {}
    for title in titles:
        room = [size - len(parts[name]) for name, size in zip(SPLITS, sizes, strict=True)]
        fits = [n for n in range(3) if room[n] >= len(pages[title])]
        if fits:
            name = SPLITS[draw.choices(fits, [room[n] for n in fits])[0]]
            parts[name] += pages[title]
            side[title] = name
    for one in pool:
        side.setdefault(page[one.title], draw.choices(SPLITS, sizes)[0])
    return {name: (parts[name], [one for one in pool if side[page[one.title]] == name])
            for name in SPLITS}  # fmt: skip


def _linked_pages(
    questions: Sequence[NQQuestion], pool: Sequence[Passage]
) -> dict[str, str]:  # fmt: skip
    """By title: the first in the alphabet of all titles that share a question or a passage with it,
    directly or through others. Case and white space make no difference."""
    parent: dict[str, str] = {}

    def find(title: str) -> str:
        while parent.setdefault(title, title) != title:
            title = parent[title]
        return title

    seen: dict[str, str] = {}
    texts = [(one.gold.title, f"question {one.question}") for one in questions]
    texts += [(one.gold.title, f"passage {one.gold.text}") for one in questions]
    texts += [(one.title, f"passage {one.text}") for one in pool]
    for title, text in texts:
        first, second = sorted((find(title), find(seen.setdefault(_plain(text), title))))
        parent[second] = first
    return {title: find(title) for title in list(parent)}


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the answers stands in the text as whole words, whatever its case."""
    return any(
        re.search(rf"(?<!\w){re.escape(one.strip())}(?!\w)", text, re.IGNORECASE) for one in answers
    )


@dataclass(frozen=True)
class Distractors:
    """How a question's distractors are drawn from a pool.

    Attributes:
        kind: "bm25" and "dense": the passages most like the question; "random".
        encoder: for "dense": texts to rows of norm 1.
        seed: of random draws.

    Raises:
        ValueError: an unknown kind, "dense" without an encoder.
    """

    kind: str = "bm25"
    encoder: Callable[[list[str]], NDArray[np.float32]] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("bm25", "dense", "random"):
            raise ValueError(f"kind of distractors {self.kind!r}: choose bm25, dense or random")
        if self.kind == "dense" and self.encoder is None:
            raise ValueError("dense distractors need an encoder")

    def draw(
        self, questions: Sequence[NQQuestion], pool: Sequence[Passage], wanted: int
    ) -> list[list[Passage]]:
        """The best `wanted` distractors of each question, the hardest first.

        Raises:
            DataError: fewer passages of the pool are free of the question's answers.
        """
        texts = [f"{one.title}\n{one.text}" for one in pool]
        score = self._scorer(texts)
        found = []
        for one in questions:
            order = score(one)
            right = (
                n for n in order
                if pool[n].title != one.gold.title and not holds_answer(texts[n], one.answers)
            )  # fmt: skip
            chosen = [pool[n] for n, _ in zip(right, range(wanted), strict=False)]
            if len(chosen) < wanted:
                raise DataError(
                    f"Question {one.name}: the pool of {len(pool)} passages has {len(chosen)} "
                    f"without its answers, {wanted} are wanted: fewer documents or a larger pool."
                )
            found.append(chosen)
        return found

    def _scorer(self, texts: list[str]) -> Callable[[NQQuestion], list[int]]:
        if self.kind == "bm25":
            index = BM25Index(texts)
            return lambda one: best_first(index.scores(one.question))
        if self.kind == "dense":
            assert self.encoder is not None
            encoder, rows = self.encoder, self.encoder(texts)
            return lambda one: best_first(rows @ encoder([one.question])[0])

        def shuffled(one: NQQuestion) -> list[int]:
            order = list(range(len(texts)))
            random.Random(f"{self.seed}/{one.name}").shuffle(order)
            return order

        return shuffled


def arrange(
    one: NQQuestion, distractors: Sequence[Passage], gold_at: int | None, task: str
) -> QAExample:
    """The question with its documents.

    Args:
        one: the question.
        distractors: in the order in which they are to stand.
        gold_at: place of the gold passage, from 0; None: it is left out and the answer is
            `NO_ANSWER`.
        task: the part of the benchmark.

    Raises:
        ValueError: a place beyond the last.
    """
    if gold_at is not None and not 0 <= gold_at <= len(distractors):
        raise ValueError(f"gold at {gold_at} of {len(distractors) + 1} documents")
    passages = list(distractors)
    if gold_at is not None:
        passages.insert(gold_at, one.gold)
    lines = [f"Document [{n}](Title: {p.title}) {p.text}" for n, p in enumerate(passages, 1)]
    chunks, at = [], 0
    for line in lines:
        chunks.append((at, at + len(line)))
        at += len(line) + 1
    return QAExample(
        key=f"{one.name}/{task}",
        task=task,
        question_id=one.name,
        document_id=one.name,
        question=one.question,
        answers=one.answers if gold_at is not None else (NO_ANSWER,),
        document="\n".join(lines),
        chunks=tuple(chunks),
        evidence=() if gold_at is None else (gold_at,),
        source=one.source,
    )
