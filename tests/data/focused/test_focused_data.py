"""Readers, prompts, pools."""

import json
import lzma
import os
from pathlib import Path

import pytest
from focused_examples import TEXTS, custom_rows

from lcframework.data.focused.datamodule import (
    CustomDataModule,
    QasperDataModule,
    QualityDataModule,
)
from lcframework.data.focused.item import PromptTemplate
from lcframework.data.focused.pools import PoolSampler
from lcframework.data.focused.qasper import read_qasper
from lcframework.data.focused.readers import read_custom, read_quality
from lcframework.data.retrieval.chunkers import (
    Paragraphs,
    WordWindows,
)
from lcframework.data.retrieval.retrievers import BM25
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import ConfigError, DataError

REAL = Path(os.environ.get("LCF_REAL_DATA", "../shared/data")) / "qa"


def test_custom_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"question": "q", "answers": ["a"], "document": "One two.\n\nThree four.",
         "evidence": ["Three"]},
        {"question": "q", "answers": ["a", "b"], "documents": ["x", "y"]},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two = read_custom(path, Paragraphs())
    assert one.chunk_texts == ["One two.", "Three four."] and one.evidence == (1,)
    assert two.chunk_texts == ["x", "y"] and two.answers == ("a", "b")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": " ", "answers": ["a"], "document": "d"}, "question is empty"),
        ({"question": "q", "answers": [], "document": "d"}, "answers must be a list"),
        ({"question": "q", "answers": ["a", " "], "document": "d"}, "one of the answers is empty"),
        ({"question": "q", "answers": ["a"], "document": "  "}, "document is empty"),
        ({"question": "q", "answers": ["a"]}, "either document .* or documents"),
        ({"question": 3, "answers": ["a"], "document": "d"}, "question must be a text"),
    ],
)
def test_bad_custom_rows_are_named_by_their_line(tmp_path, row, message):
    path = tmp_path / "a.jsonl"
    good = {"question": "q", "answers": ["a"], "document": "d"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"a.jsonl, line 2.*{message}"):
        read_custom(path, Paragraphs())
    path.write_text("{\n")
    with pytest.raises(DataError, match="line 1: not JSON"):
        read_custom(path, Paragraphs())


def quality_row(**changes):
    question = {"question": "Who?", "options": ["a", "b", "c", "d"], "gold_label": 2} | changes
    return {"article_id": "7", "article": "Some words in a story. " * 20, "questions": [question]}


def test_quality(tmp_path):
    path = tmp_path / "q.jsonl"
    rows = [quality_row(difficult=1), quality_row(difficult=0), quality_row()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_quality(path, WordWindows(10))
    assert [one.task for one in found] == ["quality hard", "quality easy", "quality"]
    assert {one.answers for one in found} == {("B",)}
    assert len({one.key for one in found}) == 3  # an article's second line counts on
    module = QualityDataModule(test=path, retrieval=Retrieval(BM25(), cache_dir=str(tmp_path)))
    module.setup("test")
    assert "A. a\nB. b\nC. c\nD. d\nAnswer:" in module.items[0].question
    for label in (0, 5, None):
        path.write_text(json.dumps(quality_row(gold_label=label)) + "\n")
        with pytest.raises(DataError, match="line 1, question 1: gold_label .* 1 to 4"):
            read_quality(path, WordWindows())


def test_qasper_has_one_item_per_reference_in_training_only(tmp_path):
    def answer(**what):
        empty = {"unanswerable": False, "extractive_spans": [], "free_form_answer": "",
                 "yes_no": None, "evidence": []}  # fmt: skip
        return {"answer": empty | what}

    qas = [
        {"question_id": "1", "question": "What?", "answers": [
            answer(extractive_spans=["one", "two"], evidence=["Second paragraph."]),
            answer(free_form_answer="free", evidence=["FLOAT SELECTED: Table 1"]),
            answer(yes_no=False), answer(yes_no=True), answer(unanswerable=True)]},
    ]  # fmt: skip
    text = [{"section_name": "s", "paragraphs": ["First paragraph.", "", "Second paragraph."]}]
    paper = {"abstract": "Abstract.", "full_text": text, "qas": qas}
    path = tmp_path / "qasper.json"
    path.write_text(json.dumps({"p": paper}))
    training = read_qasper(path, training=True)
    wanted = ["one, two", "free", "No", "Yes", "Unanswerable"]
    assert [one.answers for one in training] == [(text,) for text in wanted]
    assert len({one.question_id for one in training}) == 1
    assert training[0].chunk_texts == ["Abstract.", "First paragraph.", "Second paragraph."]
    assert training[0].evidence == (2,) and training[1].evidence == ()
    (one,) = read_qasper(path, training=False)
    assert one.answers == tuple(wanted) and one.evidence == (2,)
    qas[0]["answers"] = [answer()]
    path.write_text(json.dumps({"p": paper}))
    with pytest.raises(DataError, match="question 1: the answer is neither"):
        read_qasper(path, training=False)


def test_prompt_templates(tmp_path):
    before, after = PromptTemplate("quality").render("Who?", ["x", "y"])
    assert before.endswith("\n\n") and after == "\n\nQuestion: Who?\nA. x\nB. y\nAnswer:"
    path = tmp_path / "p.jinja"
    for text, message in [
        ("{{ question }}", "exactly once"),
        ("{{ document }}{{ document }} {{ question }}", "exactly once"),
        ("{{ document }} {{ query }}", "query"),
        ("{{ document", "not a Jinja template"),
        ("{{ document }}{{ question.__class__.__mro__ }}", "unsafe"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            PromptTemplate(str(path)).render("Who?")
    with pytest.raises(ConfigError, match="templates custom, nqd, qasper, quality"):
        PromptTemplate("nothing")


def test_pools_share_out_and_resume():
    ranks = [PoolSampler(20, 3, seed=1, rank=r, ranks=2) for r in range(2)]
    epochs = []
    for epoch in range(2):
        for one in ranks:
            one.set_epoch(epoch)
        pools = [pool for one in ranks for pool in one]
        assert len(pools) == 6 == 2 * len(ranks[0])
        flat = [n for pool in pools for n in pool]
        assert len(set(flat)) == 18
        epochs.append(flat)
    assert epochs[0] != epochs[1]
    ranks[0].set_epoch(1)
    whole = list(ranks[0])
    again = PoolSampler(20, 3, seed=1, rank=0, ranks=2)
    again.resume_at(1, 2)
    assert list(again) == whole[2:]


def test_a_fingerprint_tells_another_retrieval(tmp_path):
    path = custom_rows(tmp_path / "a.jsonl")
    marks = []
    for k in (1, 2):
        rule = Retrieval(BM25(), k, cache_dir=str(tmp_path / "c"))
        module = CustomDataModule(path, retrieval=rule)
        marks.append(module.fingerprint("train"))
    assert marks[0]["fingerprint"] != marks[1]["fingerprint"]
    assert marks[0]["n"] == 8 and marks[0]["retrieval"]["recall@1"] == 1.0
    assert TEXTS[0] in module.split("train")[0].document_text


@pytest.mark.realdata
def test_real_quality_is_read():
    with lzma.open(REAL / "quality_dev.jsonl.xz", "rt") as file:
        rows = [json.loads(line) for line in file]
    found = read_quality(REAL / "quality_dev.jsonl.xz", WordWindows())
    assert len(found) == sum(len(row["questions"]) for row in rows)
    gold = rows[0]["questions"][0]
    assert found[0].answers[0] == "ABCD"[gold["gold_label"] - 1]
    assert found[0].options[gold["gold_label"] - 1] == gold["options"][gold["gold_label"] - 1]


@pytest.mark.realdata
@pytest.mark.parametrize("kind", [CustomDataModule, QasperDataModule])
def test_real_documents_with_many_questions_are_read(kind, tmp_path):
    path = REAL / "scientific_qa.jsonl.xz"
    with lzma.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    rule = Retrieval(BM25(), cache_dir=str(tmp_path))
    module = kind(path, path, path, retrieval=rule)
    found = module.split("test")
    assert len(found) == sum(len(row["questions"]) for row in rows)
    assert len({item.document for item in found}) == len(rows)
    answers = [len(one["answers"]) for row in rows for one in row["questions"]]
    assert [len(item.references) for item in found] == answers
    assert len(module.split("train")) == (sum(answers) if kind is QasperDataModule else len(found))
