"""The data module of NQd: its splits, its numbers of documents, the places of the gold passage."""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lcframework.data.focused.datamodule import FocusedDataModule
from lcframework.data.focused.example import QAExample
from lcframework.data.focused.nqd import (
    Distractors,
    NQQuestion,
    Passage,
    arrange,
    read_nq,
    split_by_title,
)
from lcframework.errors import DataError


class NQdDataModule(FocusedDataModule):
    """Natural Questions with distracting documents.

    In training each question has one number of documents of `train_documents` and its gold passage
    at a random place, both drawn once. The test has every question at every number of documents
    and every place of the gold passage, reported as tasks such as "10 docs, gold at 0", and once
    with the gold passage alone, "gold only".

    Args:
        questions: JSON lines of questions with their gold passage; see `nqd.read_nq`.
        passages: JSON lines of passages that distractors are drawn from.
        split_sizes: questions of train, valid and test, split by page title.
        split_seed: of the split.
        distractors: how they are drawn; each split from its own passages.
        train_documents: numbers of documents in training and validation.
        no_gold: share of the training questions shown without their gold passage, with the answer
            `nqd.NO_ANSWER`.
        test_documents: numbers of documents in the test.
        test_positions: places of the gold passage from 0; those beyond a number of documents are
            left out of it; None: first, middle and last.
        gold_only: also test on the gold passage alone.
        test_distractors: further kinds of distractors in the test, by name: tasks such as
            "10 docs, gold at 0, NAME"; those of `distractors` have no name.
        test_no_gold: also test without the gold passage: tasks such as "10 docs, no gold", whose
            answer is `nqd.NO_ANSWER`.
        test_questions: only the first so many questions of the test; None: all.
        **common: see `FocusedDataModule`.

    Raises:
        ValueError: numbers that make no sense.
    """

    suite = "nqd"

    def __init__(
        self,
        questions: str | Path | None = None,
        passages: str | Path | None = None,
        split_sizes: Sequence[int] = (1200, 100, 355),
        split_seed: int = 0,
        distractors: Distractors | None = None,
        train_documents: Sequence[int] = (10,),
        no_gold: float = 0.0,
        test_documents: Sequence[int] = (10, 20, 30),
        test_positions: Sequence[int] | None = None,
        gold_only: bool = True,
        test_distractors: Mapping[str, Distractors] | None = None,
        test_no_gold: bool = False,
        test_questions: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if len(split_sizes) != 3 or min(split_sizes) < 0:
            raise ValueError(f"split_sizes are three numbers of questions, got {split_sizes}")
        if min([*train_documents, *test_documents], default=0) < 2 or not 0 <= no_gold < 1:
            raise ValueError("documents count 2 or more, and no_gold lies in [0, 1)")
        self.kinds = {"": distractors or Distractors(), **(test_distractors or {})}
        wrong = [name for name in self.kinds if not re.fullmatch(r"\w*", name)]
        if wrong:
            raise ValueError(f"test_distractors: {wrong[0]!r} is no name of letters and digits")
        self.test_no_gold = test_no_gold
        self.questions, self.passages = questions, passages
        self.split_sizes, self.split_seed = tuple(split_sizes), split_seed
        self.distractors = self.kinds[""]
        self.train_documents, self.no_gold = tuple(train_documents), no_gold
        self.test_documents, self.test_positions = tuple(test_documents), test_positions
        self.gold_only, self.test_questions = gold_only, test_questions
        sizes = zip(("train", "valid", "test"), split_sizes, strict=True)
        self.inputs = {name: questions if size else None for name, size in sizes}
        self._parts: dict[str, tuple[list[NQQuestion], list[Passage]]] | None = None

    def part(self, split: str) -> tuple[list[NQQuestion], list[Passage]]:
        """Questions and passages of a split.

        Raises:
            DataError: no files are given, or bad ones.
        """
        if self._parts is None:
            if self.questions is None or self.passages is None:
                raise DataError("NQd needs data.questions and data.passages: two JSON-lines files.")
            found = read_nq(self.questions, self.passages)
            self._parts = split_by_title(*found, self.split_sizes, self.split_seed)
        return self._parts[split]

    def examples(self, split: str) -> list[QAExample]:
        """The split's questions among their documents."""
        questions, pool = self.part(split)
        if split != "test":
            return self._shuffled(split, questions, pool)
        questions = questions[: self.test_questions]
        most = max(self.test_documents) - (not self.test_no_gold)
        drawn = {name: kind.draw(questions, pool, most) for name, kind in self.kinds.items()}
        found = []
        for number, one in enumerate(questions):
            if self.gold_only:
                found.append(arrange(one, [], 0, "gold only"))
            for name, hard in drawn.items():
                found += self._tested(one, hard[number], f", {name}" if name else "")
        return found

    def _tested(self, one: NQQuestion, hard: list[Passage], kind: str) -> list[QAExample]:
        """A question among every number of distractors of a kind, at every place."""
        found = []
        for n in self.test_documents:
            # The same order at every place of the gold passage, hardest not always first.
            chosen, draw = hard[: n - 1], random.Random(f"{self.split_seed}/{one.name}/{n}")
            draw.shuffle(chosen)
            for place in self.positions(n):
                found.append(arrange(one, chosen, place, f"{n} docs, gold at {place}{kind}"))
            if self.test_no_gold:
                whole = [*chosen, hard[n - 1]]
                found.append(arrange(one, whole, None, f"{n} docs, no gold{kind}"))
        return found

    def positions(self, documents: int) -> list[int]:
        """Places of the gold passage among so many documents."""
        given = self.test_positions
        if given is None:
            given = [0, (documents - 1) // 2, documents - 1]
        return sorted({one for one in given if one < documents})

    def _shuffled(
        self, split: str, questions: list[NQQuestion], pool: list[Passage]
    ) -> list[QAExample]:
        most = max(self.train_documents) - (not self.no_gold)
        found = []
        for one, hard in zip(questions, self.distractors.draw(questions, pool, most), strict=True):
            draw = random.Random(f"{self.split_seed}/{split}/{one.name}")
            n = draw.choice(self.train_documents)
            gold = split == "valid" or draw.random() >= self.no_gold
            chosen = hard[: n - 1] if gold else hard[:n]
            draw.shuffle(chosen)
            place = draw.randrange(n) if gold else None
            found.append(arrange(one, chosen, place, f"{n} docs"))
        return found

    def fingerprint(self, split: str) -> dict[str, Any]:
        """As the base's; the passages' file too."""
        return super().fingerprint(split) | {"passages": str(self.passages)}
