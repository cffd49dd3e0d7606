"""The whole prompt of each data set, read from its own format, against a text written by hand."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from lcframework.data.focused.datamodule import (
    CustomDataModule,
    QasperDataModule,
    QualityDataModule,
)
from lcframework.data.focused.nqd_data import NQdDataModule
from lcframework.data.retrieval.retrievers import BM25
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import DataError

GOLDEN = Path(__file__).parents[2] / "fixtures/focused/prompts"
STORY = "The king slept. His guard did not."
QUALITY = {"article_id": "1", "article": STORY, "questions": [
    {"question": "Who slept?", "options": ["the guard", "the king"], "gold_label": 2,
     "difficult": 1}]}  # fmt: skip
CUSTOM = {"documents": ["Oslo is cold.", "Rome is warm."], "question": "Which city is warm?",
          "answers": ["Rome"]}  # fmt: skip
PAPER = {
    "abstract": "We count bridges.",
    "full_text": [{"section_name": "All", "paragraphs": ["There are nine bridges in Oslo.",
                                                         "We thank nobody."]}],
    "qas": [{"question_id": "q", "question": "How many bridges are there?", "answers": [
        {"answer": {"unanswerable": False, "extractive_spans": ["nine"], "yes_no": None,
                    "free_form_answer": "", "evidence": ["There are nine bridges in Oslo."]}},
        {"answer": {"unanswerable": True, "extractive_spans": [], "yes_no": None,
                    "free_form_answer": "", "evidence": ["We thank nobody."]}}]}],
}  # fmt: skip


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rule(folder):
    return Retrieval(BM25(), top_k=1, cache_dir=str(folder / "cache"))


def module(name, folder):
    path, common = folder / "data.json", {"retrieval": rule(folder)}
    if name == "custom":
        return CustomDataModule(test=lines(path, CUSTOM), **common)
    if name.startswith("quality"):
        answer = "letter" if name == "quality" else "text"
        return QualityDataModule(test=lines(path, QUALITY), answer=answer, **common)
    if name == "qasper":
        path.write_text(json.dumps({"p": PAPER}))
        return QasperDataModule(test=path, **common)
    texts = {"Oslo": "Oslo has nine bridges.", "Lima": "The port of Lima is busy."}
    pool = [{"title": title, "text": text} for title, text in texts.items()]
    gold = {**pool[0], "isgold": True}
    row = {"question": "how many bridges has oslo", "answers": ["nine"], "ctxs": [gold]}
    return NQdDataModule(
        lines(path, row), lines(folder / "pool.json", *pool), (0, 0, 1), train_documents=(2,),
        test_documents=(2,), test_positions=(1,), gold_only=False, **common,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.txt")))
def test_prompts(name, tmp_path, monkeypatch):
    one = module(name, tmp_path)
    if name == "nqd":  # the only question is the test's, and so is the whole pool
        monkeypatch.setattr(one, "part", lambda split: _everything(one))
    one.setup("test")
    (item,) = one.items
    assert item.prompt == (GOLDEN / f"{name}.txt").read_text()
    answers = {"quality": ("B",), "quality_text": ("the king",), "custom": ("Rome",),
               "nqd": ("nine",), "qasper": ("nine", "Unanswerable")}  # fmt: skip
    assert item.references == answers[name]


def _everything(one):
    from lcframework.data.focused.nqd import read_nq

    return read_nq(one.questions, one.passages)


def test_qasper_keeps_types_and_evidence_of_each_reference(tmp_path):
    one = module("qasper", tmp_path)
    one.setup("test")
    (item,) = one.items
    assert item.types == ("extractive", "none")
    # The official evaluator counts no evidence for an unanswerable question.
    assert item.answer_evidence == (("There are nine bridges in Oslo.",), ())
    assert item.kept == (0,) and item.kept_units == ["We count bridges."]
    assert replace(item, kept=(1, 2)).kept_units == PAPER["full_text"][0]["paragraphs"]
    assert item.task == "qasper" and item.source.endswith("paper p, question q")


def test_the_official_archive_is_read_as_it_is(tmp_path):
    path = tmp_path / "qasper-train-dev-v0.3.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for split, question in (("train", "Trained?"), ("dev", "Developed?")):
            paper = PAPER | {"qas": [{**PAPER["qas"][0], "question": question}]}
            content = json.dumps({"p": paper}).encode()
            about = tarfile.TarInfo(f"qasper-{split}-v0.3.json")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    one = QasperDataModule(path, path, path, retrieval=rule(tmp_path))
    asked = {name: {row.question for row in one.examples(name)} for name in one.inputs}
    assert asked == {"train": {"Trained?"}, "valid": {"Developed?"}, "test": {"Developed?"}}
    assert len(one.examples("train")) == 2 and len(one.examples("valid")) == 1
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(DataError, match="holds no JSON file, none of the train split"):
        one.examples("train")
    path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"tgz: damaged or not JSON .* download it again"):
        one.examples("train")


@pytest.mark.parametrize("kind", [CustomDataModule, QasperDataModule])
def test_documents_with_many_questions(kind, tmp_path):
    row = {"doc_id": "d", "document": "Oslo is cold.\n\nRome is warm.", "questions": [
        {"question": "Warm?", "answers": ["Rome", "in Rome"]},
        {"question": "Cold?", "answers": ["Oslo"], "evidence": ["Oslo is cold."]}]}  # fmt: skip
    path = lines(tmp_path / "a.jsonl", row)
    one = kind(path, path, path, retrieval=rule(tmp_path))
    training, testing = one.examples("train"), one.examples("test")
    assert [row.answers for row in testing] == [("Rome", "in Rome"), ("Oslo",)]
    assert len(training) == (3 if kind is QasperDataModule else 2)  # one per reference, as Qasper
    assert {row.document_id for row in training} == {"d"}
    assert testing[1].evidence == (0,) and testing[1].source.endswith("line 1, question 2")
    assert len({row.question_id for row in training}) == 2
