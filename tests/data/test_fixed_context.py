"""Documents with questions from JSON lines."""

import gzip
import json
import lzma

import pytest

from lcframework.data.fixed_context import FixedContextDataModule, read_fixed_contexts
from lcframework.errors import DataError

ROWS = [
    {"doc_id": "a", "context": "Some text.", "questions": [{"question": "Q1?", "answers": ["x"]},
                                                           {"question": "Q2?", "answers": "y"}]},
    {"document": "More text.", "questions": ["Q3?"]},
]  # fmt: skip


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(("ending", "compress"), [("", bytes), (".gz", gzip.compress),
                                                  (".xz", lzma.compress)])  # fmt: skip
def test_rows_of_plain_and_compressed_files(tmp_path, ending, compress):
    path = tmp_path / f"docs.jsonl{ending}"
    path.write_bytes(compress(lines(ROWS) + b"\n"))
    first, second = read_fixed_contexts(path)
    assert (first.document_id, first.document) == ("a", "Some text.")
    assert first.questions == ("Q1?", "Q2?") and first.references == (("x",), ("y",))
    assert second.document_id == "line 2" and second.references == ((),)


def test_a_batch_is_a_document(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(lines(ROWS))
    data = FixedContextDataModule(path, max_questions=1)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [batch.questions for batch in batches] == [("Q1?",), ("Q3?",)]
    assert batches[0].references == (("x",),)
    assert [batch.document for batch in data.predict_dataloader()] == ["Some text.", "More text."]
    about = data.fingerprint("test")
    assert about["n"] == 2 and about["questions"] == 2
    fewer = FixedContextDataModule(path, max_documents=1)
    fewer.setup()
    assert len(list(fewer.test_dataloader())) == 1
    assert fewer.fingerprint("test")["fingerprint"] != about["fingerprint"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"not json\n", "line 1: not an object"),
        (lines([ROWS[0]]) + b'{"context": "x"}\n', "line 2: not an object .*questions"),
        (lines([{"context": "x", "questions": [{"question": "Q"}]}]), "answers"),
        (lines([{"context": 3, "questions": ["Q"]}]), "must be texts"),
        (lines([{"context": " ", "questions": ["Q"]}]), "line 1: the document is empty"),
        (lines([{"context": "x", "questions": []}]), "has no questions"),
        (lines([ROWS[0], ROWS[0]]), "'a' occurs twice"),
        (b"[1, 2]\n", "line 1: not an object"),
    ],
)
def test_bad_files_are_told_by_line(tmp_path, content, said):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_fixed_contexts(path)
    assert str(path) in str(caught.value)


def test_missing_files_and_settings(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_fixed_contexts(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="set data.path"):
        FixedContextDataModule().setup("test")
    with pytest.raises(ValueError, match="max_documents"):
        FixedContextDataModule(max_documents=0)
