"""What is wrong with the data or the model is said with file, line and cure."""

import json
import logging

import lightning.pytorch as pl
import pytest
from focused_examples import TEXTS, custom_rows, item, llm, nq_files
from test_golden_prompts import PAPER, QUALITY, lines

from lcframework.data.focused.datamodule import CustomDataModule
from lcframework.data.focused.nqd import read_nq
from lcframework.data.focused.qasper import read_qasper
from lcframework.data.focused.readers import read_custom, read_quality
from lcframework.data.retrieval.chunkers import Paragraphs, WordWindows
from lcframework.data.retrieval.retrievers import BM25, Random
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import DataError
from lcframework.models.focused.lora import LoRA
from lcframework.tasks.focused_generation import FocusedGeneration
from lcframework.tasks.focused_qa import FocusedQATask

READERS = {
    "custom": lambda path: read_custom(path, Paragraphs()),
    "quality": lambda path: read_quality(path, WordWindows()),
    "qasper": lambda path: read_qasper(path, training=False),
    "nqd": lambda path: read_nq(path, path),
}


def quality(**changes):
    return QUALITY | {"questions": [QUALITY["questions"][0] | changes]}


def nq(**changes):
    gold = {"title": "Oslo", "text": "Oslo has nine bridges.", "isgold": True}
    return {"question": "how many", "answers": ["nine"], "ctxs": [gold]} | changes


GOOD = {"custom": {"question": "q", "answers": ["a"], "document": "d"}, "quality": QUALITY,
        "nqd": nq()}  # fmt: skip
BAD = [
    ("custom", {"question": " ", "answers": ["a"], "document": "d"}, "the question is empty. Fill"),
    ("custom", {"question": "q", "answers": ["a", ""], "document": "d"}, "answers is empty. Fill"),
    ("custom", {"document": "d", "questions": [{"question": "", "answers": ["a"]}]},
     "question 1: .*question is empty. Fill"),
    ("quality", quality(question=""), "question 1: .*the question is empty. Fill"),
    ("quality", quality(options=["the guard", " "]), "one of the options is empty. Restore"),
    ("quality", quality(gold_label=3), "gold_label is 3; it counts from 1 to 2.*Raise labels"),
    ("quality", quality(gold_label=0), "gold_label is 0; it counts from 1 to 2.*Raise labels"),
    ("quality", quality(gold_label=True), "gold_label is True; it counts from 1"),
    ("quality", quality(gold_label=None), "hidden: test on the development file"),
    ("nqd", nq(question="  "), "question must be a text that is not empty. Fill it in or remove"),
    ("nqd", nq(answers=[]), "answers must be a list of texts, at least one and none empty. Fill"),
    ("nqd", nq(answers=["nine", ""]), "at least one and none empty. Fill"),
    ("nqd", nq(ctxs=[]), "0 of its ctxs are gold .* where one is wanted. Mark"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "message"), BAD)
def test_bad_rows(name, row, message, tmp_path):
    path = lines(tmp_path / "mine.jsonl", GOOD[name], row)
    with pytest.raises(DataError, match=rf"mine\.jsonl, line 2.*{message}"):
        READERS[name](path)


@pytest.mark.parametrize("name", ["custom", "quality", "nqd"])
@pytest.mark.parametrize(("text", "message"), [
    ("{\"question\": ", "not JSON .*download it again"), ("[1]", "a JSON object is wanted"),
])  # fmt: skip
def test_malformed_lines(name, text, message, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(GOOD[name])}\n\n{text}\n")
    with pytest.raises(DataError, match=rf"mine\.jsonl, line 3: {message}"):
        READERS[name](path)


@pytest.mark.parametrize(("change", "message"), [
    ({"question": ""}, "question q: .*the question is empty. Fill"),
    ({"answers": [{"answer": {"free_form_answer": " "}}]}, "question q: .*answers is empty. Fill"),
    ({"answers": [{"answer": {}}]}, "question q: the answer is neither .* Remove it, or restore"),
    ({"answers": []}, "question q: .*there is no answer"),
    ({"answers": 3}, "question q: answers must be a list"),
])  # fmt: skip
def test_bad_papers(change, message, tmp_path):
    path = tmp_path / "papers.json"
    paper = PAPER | {"qas": [PAPER["qas"][0] | change]}
    path.write_text(json.dumps({"p": paper}))
    with pytest.raises(DataError, match=rf"papers\.json, paper p, {message}"):
        READERS["qasper"](path)
    path.write_text('{\n"p": ')
    with pytest.raises(DataError, match=r"papers\.json: .*not JSON .*line 2.*download it again"):
        READERS["qasper"](path)


def data(folder, retriever=None, top_k=1, on_miss="keep", rows=6, **options):
    path = custom_rows(folder / "mine.jsonl", rows)
    rule = Retrieval(retriever or BM25(), top_k, on_miss, cache_dir=str(folder / "cache"))
    given = {"retrieval": rule, "pool_size": 2, "chat": False}
    return CustomDataModule(path, path, path, **given | options)


def test_documents_of_too_few_chunks_are_counted_or_refused(tmp_path):
    assert data(tmp_path, top_k=4).fingerprint("test")["retrieval"]["short"] == 0
    counts = data(tmp_path, top_k=5).fingerprint("test")["retrieval"]
    assert counts["short"] == counts["dropped"] == 6
    message = r"mine\.jsonl: no pair .*6 of 6 documents have 5 chunks or fewer.*Choose a smaller"
    with pytest.raises(DataError, match=message):
        data(tmp_path, top_k=5).setup("fit")


class Last(Random):
    """Never finds the evidence, which is the last chunk."""

    def rank(self, example):
        return list(range(len(example.chunks)))


def test_gold_that_is_never_retrieved(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        one = data(tmp_path, Last())
        one.setup("fit")
    assert one.counts["train"]["missed"] == 6 and one.counts["train"]["recall@3"] == 0
    assert all(item.contrast for item in one.split("train"))  # the rule "keep"
    assert "not one of 6 questions has all its evidence among the 1 chunks" in caplog.text
    assert "on_miss=union or drop" in caplog.text
    union = data(tmp_path, Last(), on_miss="union").split("train")
    assert all(item.kept == (0, len(TEXTS)) for item in union)
    with pytest.raises(DataError, match=r"of 6 not all evidence was retrieved.*another retriever"):
        data(tmp_path, Last(), on_miss="drop").setup("fit")


def trainer(folder):
    return pl.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder,
    )  # fmt: skip


def test_a_batch_without_negatives(tmp_path):
    """One pair of four has its evidence; the others are left out of the contrast."""

    class One(Random):
        def rank(self, example):
            order = list(range(len(example.chunks)))
            return order[::-1] if example.question_id == "0" else order

    one = data(tmp_path, One(), on_miss="drop", rows=2)
    task = FocusedQATask(llm(), lora=LoRA(r=2), template="never")
    message = "No pair of a batch of 2 has a negative.*larger data.pool_size.*on_miss"
    with pytest.raises(DataError, match=message):
        trainer(tmp_path).fit(task, datamodule=one)


def test_a_model_without_pad_and_mask_token(tmp_path):
    """Gets a new mask token, needs no pad token: nothing is padded; saved and loaded it answers."""
    model, tokenizer = llm()
    tokenizer.pad_token = None
    assert tokenizer.pad_token_id is None and tokenizer.mask_token is None
    task = FocusedQATask((model, tokenizer), lora=LoRA(r=2), template="never")
    assert tokenizer.mask_token == "<mask>" and task.new_token
    trainer(tmp_path).fit(task, datamodule=data(tmp_path))
    assert task(item(0)).text is not None
    assert (tmp_path / "adapter" / "tokenizer.json").is_file()


def test_a_question_that_leaves_no_room_for_its_document(tmp_path):
    row = {"question": "Why? " * 60, "answers": ["so"], "document": "One.\n\nTwo."}
    path = lines(tmp_path / "mine.jsonl", GOOD["custom"], row)
    rule = Retrieval(BM25(), 1, cache_dir=str(tmp_path / "cache"))
    one = CustomDataModule(test=path, retrieval=rule)
    one.setup("test")
    task = FocusedGeneration(llm(), "never", max_length=200)
    message = (
        r"mine\.jsonl, line 2: 1: max_length=200 leaves no token of the document beside the "
        r"question and the answer; raise task\.max_length by \d+ or more"
    )
    for call in (lambda: task.encode(one.items[1]), lambda: task.tokens(one.items[1], "so")):
        with pytest.raises(DataError, match=message):
            call()


def test_bad_passages(tmp_path):
    questions, pool = nq_files(tmp_path)
    pool.write_text(pool.read_text() + "\n" + json.dumps({"title": "x", "text": " "}) + "\n")
    with pytest.raises(
        DataError, match=r"passages\.jsonl, line 16: a passage needs title and text"
    ):
        read_nq(questions, pool)
