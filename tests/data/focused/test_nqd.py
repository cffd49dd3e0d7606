"""NQd: splits that share nothing, distractors, kinds and places in the test."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from focused_examples import nq_files

from lcframework.data.focused.nqd import (
    NO_ANSWER,
    Distractors,
    holds_answer,
    read_nq,
    split_by_title,
)
from lcframework.data.focused.nqd_data import NQdDataModule
from lcframework.data.retrieval.retrievers import BM25, BM25Index
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import DataError

REAL = Path(os.environ.get("LCF_REAL_DATA", "../shared/data")) / "qa"


def nqd(folder, cache=True, **options):
    rule = Retrieval(BM25(), top_k=1, cache_dir=str(folder / "cache"))
    given = {
        "split_sizes": (6, 4, 4), "train_documents": (2, 3), "test_documents": (3, 2),
        "retrieval": rule, "pool_size": 2,
    }  # fmt: skip
    return NQdDataModule(*nq_files(folder), **given | options)


def words(text):
    return " ".join(text.lower().split())


def leaks(module):
    """Questions, titles and passages that two splits share."""
    seen = {}
    for split in ("train", "valid", "test"):
        questions, pool = module.part(split)
        seen[split] = {words(q.question) for q in questions}
        seen[split] |= {f"title {p.title}" for p in [*pool, *(q.gold for q in questions)]}
        seen[split] |= {words(p.text) for p in [*pool, *(q.gold for q in questions)]}
        for item in module.examples(split):
            seen[split] |= {words(text.split("](Title: ")[1]) for text in item.chunk_texts}
    return [one & two for name, one in seen.items() for other, two in seen.items() if name < other]


def test_nqd_splits_share_nothing(tmp_path):
    module = nqd(tmp_path)
    assert [len(module.part(name)[0]) for name in ("train", "valid", "test")] == [6, 4, 4]
    assert not any(leaks(module))


@pytest.mark.realdata
def test_nqd_splits_of_real_questions_share_nothing(tmp_path):
    files = REAL / "nqd_oracle.jsonl.xz", REAL / "nqd_passages.jsonl.xz"
    module = NQdDataModule(*files, test_documents=(10,))
    assert [len(module.part(name)[0]) for name in ("train", "valid", "test")] == [1200, 100, 355]
    assert not any(leaks(module))


def test_nqd_test_has_every_place_with_the_same_distractors(tmp_path):
    module = nqd(tmp_path)
    rows = module.examples("test")
    tasks = ["gold only", "3 docs, gold at 0", "3 docs, gold at 1", "3 docs, gold at 2",
             "2 docs, gold at 0", "2 docs, gold at 1"]  # fmt: skip
    assert [one.task for one in rows[:6]] == tasks and len(rows) == 24
    for one in rows:
        n = 1 if one.task == "gold only" else int(one.task[0])
        assert len(one.chunks) == n
        gold = one.evidence[0]
        assert one.task == "gold only" or one.task.endswith(f"gold at {gold}")
        for place, text in enumerate(one.chunk_texts):
            assert text.startswith(f"Document [{place + 1}](Title: ")
            assert holds_answer(text.split(")", 1)[1], one.answers) == (place == gold)
    bodies = [{t.split("](")[1] for t in one.chunk_texts} for one in rows[1:4]]
    assert bodies[0] == bodies[1] == bodies[2]


def test_pages_that_share_a_question_or_a_passage_are_on_one_side(tmp_path):
    """Two titles of one passage, two questions of one wording: what a split by title would leak."""
    questions, passages = nq_files(tmp_path, 30)
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    pool = [json.loads(line) for line in passages.read_text().splitlines()]
    for n in range(0, 20, 4):
        rows[n + 1]["question"] = f" {rows[n]['question'].upper()}"
        pool[n + 2] |= {"text": pool[n]["text"]}
        rows[n + 2]["ctxs"][0]["text"] = rows[n]["ctxs"][0]["text"]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    passages.write_text("".join(json.dumps(row) + "\n" for row in pool))
    found, texts = read_nq(questions, passages)
    parts = split_by_title(found, texts, (12, 6, 12), seed=1)
    sides = {one.name: name for name, (some, _) in parts.items() for one in some}
    assert len(sides) == 30
    for n in range(0, 20, 4):
        assert sides[f"n{n}"] == sides[f"n{n + 1}"] == sides[f"n{n + 2}"]
    seen = [{words(p.text) for p in some} for _, some in parts.values()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_passages_as_released(tmp_path):
    questions, passages = nq_files(tmp_path, 4)
    assert read_nq(questions, questions) == read_nq(questions, passages)


def test_nqd_test_with_other_kinds_and_without_gold(tmp_path):
    kinds = {"random": Distractors("random")}
    module = nqd(tmp_path, test_documents=(3,), test_positions=(1,), test_no_gold=True,
                 test_distractors=kinds, split_sizes=(4, 3, 7))  # fmt: skip
    rows = module.examples("test")
    tasks = ["gold only", "3 docs, gold at 1", "3 docs, no gold", "3 docs, gold at 1, random",
             "3 docs, no gold, random"]  # fmt: skip
    assert [one.task for one in rows[:5]] == tasks and len(rows) == 35
    assert len({one.key for one in rows}) == 35
    for one in rows:
        without = "no gold" in one.task
        assert (one.answers == (NO_ANSWER,)) == without and bool(one.evidence) != without
        assert len(one.chunks) == (1 if one.task == "gold only" else 3)
    main, other = ({t.split("](")[1] for t in one.chunk_texts} for one in (rows[1], rows[3]))
    assert len(main & other) < 3
    with pytest.raises(ValueError, match="no name of letters"):
        nqd(tmp_path, test_distractors={"very hard": Distractors()})


@pytest.mark.parametrize("kind", ["bm25", "random", "dense"])
def test_distractors_hold_no_answer_and_are_hard_first(tmp_path, kind):
    def encoder(texts):
        return np.stack([[t.count(letter) for letter in "abrst "] for t in texts]).astype("f4")

    questions, pool = nqd(tmp_path).part("train")
    drawn = Distractors(kind, encoder if kind == "dense" else None).draw(questions, pool, 3)
    for one, chosen in zip(questions, drawn, strict=True):
        assert len({p.title for p in chosen}) == 3 and one.gold.title not in [
            p.title for p in chosen
        ]
        assert not any(holds_answer(p.text, one.answers) for p in chosen)
    if kind == "bm25":
        scores = BM25Index([f"{p.title}\n{p.text}" for p in pool]).scores(questions[0].question)
        ranks = [scores[pool.index(p)] for p in drawn[0]]
        assert ranks == sorted(ranks, reverse=True)
    with pytest.raises(DataError, match="has .* without its answers, 40 are wanted"):
        Distractors("random").draw(questions, pool, 40)


def test_no_gold_questions_have_another_answer(tmp_path):
    module = nqd(tmp_path, no_gold=0.6)
    rows = module.examples("train")
    without = [one for one in rows if one.answers == (NO_ANSWER,)]
    assert 0 < len(without) < len(rows)
    assert all(not one.evidence for one in without)
    assert all(one.answers != (NO_ANSWER,) for one in module.examples("valid"))


def test_answers_are_whole_words():
    assert holds_answer("In 1901, Röntgen won.", ["röntgen"])
    assert not holds_answer("It has 1901 rooms", ["190"])
