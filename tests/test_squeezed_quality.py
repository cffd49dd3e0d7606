"""The benchmark of what methods lose: its plan, its stages, its tables, on a tiny model."""

import json
import sys
import time
from pathlib import Path

import pytest
from tiny_decoders import byte_tokenizer, tiny_model

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import squeezed_items
import squeezed_quality
import squeezed_tables

from lcframework.errors import RunDirError

NONE = ["--longbench", "0", "--documents", "0", "--kv-rows", "0"]


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model(max_position_embeddings=1024).save_pretrained("llm")
    byte_tokenizer().save_pretrained("llm")
    setup = squeezed_items.Setup("never", 1024, 900, (900,))
    monkeypatch.setitem(squeezed_items.SETUPS, "llm", setup)
    monkeypatch.setattr(squeezed_items, "NEEDLES", ("niah_single", "qa"))
    words = ["--data", ".", "--models", "llm", "--out", "out", "--work", "work", *NONE]
    words += ["--needles", "1", "--gold-tokens", "8", "--max-new", "4", "--dtype", "float32"]
    found = squeezed_quality.options(words)
    found.deadline = time.time() + 600
    return found


def test_a_plan_takes_turns_and_counts_what_does_not_fit(given, monkeypatch):
    (given.data / "qa").mkdir()
    row = {"context": "A tale of things. " * 20, "questions": [{"question": q, "answers": ["a"]}
           for q in ("Who?", "What?", "Why?")]}  # fmt: skip
    docs = [
        row | {"doc_id": f"{kind}-{n}", "context": f"{kind}{n}. {row['context']}"}
        for kind in ("x", "y")
        for n in range(3)
    ]
    docs[0] = docs[0] | {"context": row["context"] * 3}
    path = given.data / "qa" / "prefixqa.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in docs))
    read = squeezed_items.read_prefix_qa
    monkeypatch.setattr(squeezed_items, "read_prefix_qa", lambda _: read(path))
    given.documents, given.questions = 1, 2
    units, refused = squeezed_items.plan(byte_tokenizer(), squeezed_items.SETUPS["llm"], given)
    assert [unit.suite for unit in units] == ["prefix_qa", "ruler", "prefix_qa", "ruler"]
    documents = [unit.prompts[0].item.document for unit in units if unit.suite == "prefix_qa"]
    assert documents == ["x-1", "y-0"] and len(units[0].prompts) == 2
    assert [one["state"] for one in refused] == ["longer than the model's 1024 positions"] * 3
    squeezed_items.write_plan(Path("plan.json"), units, refused)
    assert squeezed_items.read_plan(Path("plan.json")) == (units, refused)


def test_all_stages_and_a_second_start(given):
    squeezed_quality.plan_stage(given)
    given.part = "0/2"
    squeezed_quality.work_stage(given)
    squeezed_tables.write_tables(given)
    half = json.loads(Path("out/results.json").read_text())["models"]["llm"]
    assert [row["not_run"] for row in half["counts"]] == ["", "1 time ran out"]
    assert half["cost"] is None
    for part in ("0/2", "1/2"):
        given.part = part
        squeezed_quality.work_stage(given)
    given.part = "0/1"
    squeezed_quality.work_stage(given)  # everything is there: nothing is answered twice
    answers = [
        json.loads(line)
        for file in sorted(Path("work/llm/answers").glob("rank*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    assert len({one["key"] for one in answers}) == len(answers) == 2
    squeezed_quality.cost_stage(given)
    squeezed_tables.write_tables(given)
    record = json.loads(Path("out/results.json").read_text())["models"]["llm"]
    assert [row["run"] for row in record["counts"]] == [1, 1]
    methods = {row["method"]: row for row in record["methods"]}
    assert len(methods) == 18 and methods["squeeze 90"]["items"] == 2
    assert methods["dense, text order"]["kl"] < 1e-6
    for name in ("snapkv", "snapkv_question", "recent", "oracle", "random"):
        for percent in (70, 90):
            same = methods[f"squeeze {percent}"]["budget"]
            assert methods[f"{name} @ squeeze {percent}"]["budget"] == pytest.approx(same, abs=0.01)
    assert methods["oracle @ squeeze 90"]["kl"] < methods["random @ squeeze 90"]["kl"]
    assert {row["verdict"] for row in record["claims"]} == {"not testable here"}  # two documents
    rows = {row["method"]: row for row in record["cost"]["methods"]}
    assert list(rows) == ["dense", "squeeze 70", "squeeze 80", "squeeze 90", "hierarchical 90"]
    assert all(row["token_ms"] > 0 for row in rows.values())
    written = {path.name for path in Path("out/llm").iterdir()}
    assert {"budget.png", "suites.png", "layers.png", "methods.csv", "counts.csv"} <= written


def test_no_time_is_no_answer(given):
    squeezed_quality.plan_stage(given)
    given.deadline = time.time() - 1
    squeezed_quality.work_stage(given)
    squeezed_tables.write_tables(given)
    record = json.loads(Path("out/results.json").read_text())["models"]["llm"]
    assert record["methods"] == [] and all(row["run"] == 0 for row in record["counts"])


def test_other_settings_are_refused(given):
    from lcframework.callbacks.answer_store import AnswerStore

    AnswerStore(given.work / "llm" / "answers").claim({"needles": 7})
    with pytest.raises(RunDirError, match="other settings"):
        squeezed_quality.answer_all(given, time.time())
