"""PrefixQA, key-value retrieval, the loader that shares items out, and their scores."""

import json

import pytest

from lcframework.data.generation import EachOnce, GenerationDataModule, _Items
from lcframework.data.kv_retrieval import KVRetrievalDataModule, kv_prompt, read_kv_retrieval
from lcframework.data.prefix_qa import PrefixQADataModule, read_prefix_qa
from lcframework.errors import DataError
from lcframework.scoring.containment import any_contained, prefix_qa, share_contained
from lcframework.scoring.suites import score_answer

DOCUMENT = {
    "doc_id": "a", "context": "Once.",
    "questions": [
        {"question": "When?", "answers": ["once"], "kind": "free"},
        {"question": "Which?\nA. x\nB. y", "answers": ["B"], "kind": "multiple_choice"},
    ],
}  # fmt: skip
RECORDS = {
    "ordered_kv_records": [["k1", "v1"], ["k2", "v2"], ["k3", "v3"]],
    "key": "k2",
    "value": "v2",
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prefix_qa_shares_the_document(tmp_path):
    file = write(tmp_path / "a.jsonl", DOCUMENT, DOCUMENT | {"doc_id": "b"})
    items = read_prefix_qa(file)
    assert [one.key for one in items] == ["a/0", "a/1", "b/0", "b/1"]
    assert items[0].fixed == items[1].fixed and items[0].fixed.count("Once.") == 1
    assert items[1].task == "multiple_choice" and items[1].question.endswith("B. y\nAnswer:")
    data = PrefixQADataModule(file, max_items=1)
    data.setup()
    assert [one.key for one in data.items] == ["a/0", "a/1"]  # one of each kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": " "}, "line 1: doc_id and context"),
        ({"questions": []}, "at least one"),
        ({"questions": ["When?"]}, "question 1: an object"),
        ({"questions": [{"question": "w", "answers": "x"}]}, "list of texts"),
        ({"questions": [{"question": "w", "answers": []}]}, "no answer"),
        ({"questions": [{"question": "w", "answers": ["x"], "kind": "odd"}]}, "kind is 'odd'"),
    ],
)
def test_prefix_qa_of_another_schema(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_prefix_qa(write(tmp_path / "a.jsonl", DOCUMENT | change))
    with pytest.raises(DataError, match="'a' occurs twice"):
        read_prefix_qa(write(tmp_path / "a.jsonl", DOCUMENT, DOCUMENT))
    with pytest.raises(DataError, match="no such file"):
        read_prefix_qa(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"set data\.path"):
        PrefixQADataModule().setup()


def test_key_value_retrieval(tmp_path):
    assert kv_prompt({"k1": "v1", "k2": "v2"}).endswith(
        'JSON data:\n{"k1": "v1",\n "k2": "v2"}\n\n'
    )
    file = write(tmp_path / "kv.jsonl", RECORDS)
    (own,) = read_kv_retrieval(file)
    assert own.question == 'Key: "k2"\nCorresponding value:' and own.references == ("v2",)
    more = read_kv_retrieval(file, questions=9)
    assert more[0] == own and {one.references for one in more} == {("v1",), ("v2",), ("v3",)}
    assert read_kv_retrieval(file, questions=9) == more
    data = KVRetrievalDataModule(file, questions=2)
    data.setup()
    assert len(data.items) == 2 and data.items[0].task == "3 keys"


@pytest.mark.parametrize(
    "change",
    [
        {"ordered_kv_records": None},
        {"ordered_kv_records": [["k2", "v2"], ["k2", "v2"]]},
        {"ordered_kv_records": [["k2", 2]]},
        {"value": "v1"},
        {"key": "k9"},
    ],
)
def test_key_value_rows_of_another_schema(tmp_path, change):
    with pytest.raises(DataError, match="line 1: no key-value row"):
        read_kv_retrieval(write(tmp_path / "kv.jsonl", RECORDS | change))


def test_every_item_goes_to_one_rank():
    items = _Items(list(range(7)))
    shares = [list(EachOnce(items, 3, rank)) for rank in range(3)]
    assert (
        sorted(one for share in shares for one in share) == list(range(7)) and len(shares[0]) == 3
    )
    assert [len(EachOnce(items, 3, rank)) for rank in range(3)] == [3, 2, 2]
    with pytest.raises(ValueError, match="max_items"):
        GenerationDataModule(max_items=0)


def test_scores_of_containment():
    assert share_contained("12 and 34\x0056", ["12", "56", "78"]) == pytest.approx(2 / 3)
    assert any_contained("it is OSLO", ["rome", "Oslo"]) == 1.0
    assert any_contained("", ["Oslo"]) == 0.0
    for scorer in (share_contained, any_contained):
        with pytest.raises(ValueError, match="without references"):
            scorer("x", [])


@pytest.mark.parametrize(
    ("kind", "prediction", "references", "value"),
    [
        ("multiple_choice", " B. because A", ["B"], 1.0),
        ("multiple_choice", "The answer is (C)", ["C"], 1.0),
        ("multiple_choice", "Both", ["B"], 0.0),
        ("multiple_choice", "I say CA", ["AC"], 1.0),
        ("multiple_choice", "A and C", ["AC"], 1.0),
        ("multiple_choice", "A", ["AC"], 0.0),
        ("true_false", "False, not true", ["False"], 1.0),
        ("true_false", "It is untrue", ["True"], 0.0),
        ("free", "the 25 April", ["April 25", "May"], 1.0),
        ("dialogue", "", ["x"], 0.0),
    ],
)
def test_prefix_qa_scores(kind, prediction, references, value):
    assert prefix_qa(kind, prediction, references) == value


def test_the_suites_know_their_scores():
    assert score_answer("kv_retrieval", "3 keys", "is V2.", ["v2"]) == 1.0
    assert score_answer("ruler", "qa 4096", "in Bado", ["Bado", "Kilu"]) == 1.0
    assert score_answer("ruler", "niah_single 4096", "1", ["1", "2"]) == 0.5
    assert score_answer("longbench", "hotpotqa", "x", ["x"]) == 1.0
    assert score_answer("prefix_qa", "free", "x", ["x"]) == 1.0
    with pytest.raises(ValueError, match="no benchmark"):
        score_answer("other", "x", "x", ["x"])
    with pytest.raises(ValueError, match="no kind"):
        score_answer("prefix_qa", "odd", "x", ["x"])


@pytest.mark.realdata
def test_real_question_sets(real_data):
    questions = read_prefix_qa(real_data / "qa" / "prefixqa.jsonl.xz")
    assert len(questions) == 393 and len({one.document for one in questions}) == 40
    rows = read_kv_retrieval(real_data / "kv_retrieval" / "kv_75.jsonl.xz", questions=3)
    assert len(rows) == 300 and {one.task for one in rows} == {"75 keys"}
    for one in questions:
        assert score_answer("prefix_qa", one.task, one.references[0], one.references) == 1.0
