"""LongBench's tasks, reader and inputs."""

import copy
import hashlib
import json
import zipfile

import pytest
from longbench_rows import row, write_task

from lcframework.data.longbench import E_TASKS, TASKS, read_task
from lcframework.data.longbench.inputs import check_template, model_input, truncate_middle
from lcframework.data.longbench.tasks import find_task
from lcframework.errors import ConfigError, DataError
from lcframework.scoring.longbench import METRICS

PROMPT_SHA = "e7d865d712fe45e2455f5e864ac474001d7758d68d349e76ffbcdd382483358f"


def test_the_tasks_are_those_that_are_scored():
    assert set(TASKS) == set(METRICS) and len(TASKS) == 21
    assert len(E_TASKS) == 13 and set(E_TASKS) <= set(TASKS)
    counted = {
        n: sum(one.max_new_tokens == n for one in TASKS.values()) for n in (32, 64, 128, 512)
    }
    assert counted == {32: 7, 64: 6, 128: 4, 512: 4}
    no_chat = {one.name for one in TASKS.values() if not one.chat}
    assert no_chat == {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}
    assert [one.name for one in TASKS.values() if one.one_line] == ["samsum"]


def test_every_prompt_is_the_official_one():
    joined = {name: task.fixed + task.question for name, task in sorted(TASKS.items())}
    assert all(text.count("{context}") == 1 for text in joined.values())
    without = {name for name, text in joined.items() if "{input}" not in text}
    assert without == {"gov_report", "multi_news", "vcsum", "passage_count", "lcc"}
    text = json.dumps(joined, ensure_ascii=False, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == PROMPT_SHA


def test_items_are_read_and_braces_in_a_context_stay(tmp_path):
    items = read_task(write_task(tmp_path, "hotpotqa"), "hotpotqa")
    assert [one.number for one in items] == [0, 1, 2] and items[1].id == "hotpotqa-1"
    assert "{context} {number} of hotpotqa" in items[1].prompt
    assert items[1].prompt.endswith("Question: question 1?\nAnswer:")
    assert items[1].fixed.endswith("Question: ") and items[1].answers == ("answer 1", "other")
    assert items[1].all_classes is None and items[1].length == 1000
    (trec, *_) = read_task(write_task(tmp_path, "trec"), "trec")
    assert trec.all_classes == ("Date", "Person") and trec.question == "question 0?"


def test_extended_and_zip_files(tmp_path):
    write_task(tmp_path / "data", "qasper", suffix="_e")
    assert len(read_task(tmp_path / "data", "qasper", extended=True)) == 3
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.write(tmp_path / "data" / "qasper_e.jsonl", "data/qasper_e.jsonl")
    assert len(read_task(tmp_path / "data.zip", "qasper", extended=True)) == 3
    with pytest.raises(DataError, match=r"holds no qasper\.jsonl"):
        read_task(tmp_path / "data.zip", "qasper")
    with pytest.raises(DataError, match="it has qasper_e"):
        read_task(tmp_path / "data", "qasper")
    with pytest.raises(ConfigError, match="no task of LongBench-E"):
        read_task(tmp_path, "musique", extended=True)


def test_a_row_may_bring_a_whole_prompt(tmp_path):
    whole = "Please complete the code given below. \nx = 1\nNext line of code:\n"
    write_task(tmp_path, "repobench-p", n=1, context=None, input=None, prompt=whole)
    (item,) = read_task(tmp_path, "repobench-p")
    assert item.prompt == whole and item.question == "Next line of code:\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": "text"}, "line 1: no LongBench row, it lacks answers"),
        ({"answers": []}, "lacks answers"),
        ({"length": "12"}, "lacks length"),
        ({"context": None}, "lacks context"),
        ({"input": 3}, "lacks input"),
        ({"dataset": "trec"}, "it is of 'trec', not of qasper"),
        ({"_id": "same"}, r"line 2: _id 'same' was read already, at .*line 1"),
        ({"_id": 3}, "lacks _id"),
    ],
)
def test_another_schema_is_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_task(write_task(tmp_path, "qasper", **change), "qasper")


def test_bad_files(tmp_path):
    with pytest.raises(ConfigError, match="'nq' is no task of LongBench"):
        read_task(tmp_path, "nq")
    with pytest.raises(DataError, match="neither"):
        read_task(tmp_path / "none", "qasper")
    with pytest.raises(DataError, match="it has no tasks"):
        read_task(tmp_path, "qasper")
    (tmp_path / "qasper.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no item"):
        read_task(tmp_path, "qasper")
    (tmp_path / "qasper.jsonl").write_text(json.dumps(row("qasper", 0))[:-5])
    with pytest.raises(DataError, match=r"line 1: not JSON"):
        read_task(tmp_path, "qasper")
    (tmp_path / "qasper.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="this is a list"):
        read_task(tmp_path, "qasper")
    write_task(tmp_path, "trec", all_classes=None)
    with pytest.raises(DataError, match="lacks all_classes"):
        read_task(tmp_path, "trec")


def test_the_middle_is_cut_as_the_original_does(byte_tokenizer):
    text = "0123456789abcdef"  # 17 tokens with <s>
    assert truncate_middle(byte_tokenizer, text, None) == (text, 0)
    assert truncate_middle(byte_tokenizer, text, 17) == (text, 0)
    # half = 4: <s> 0 1 2 decoded without <s>, and c d e f
    assert truncate_middle(byte_tokenizer, text, 8) == ("012cdef", 9)
    assert truncate_middle(byte_tokenizer, text, 9) == ("012cdef", 9)
    found = model_input(byte_tokenizer, text, max_length=8)
    assert found.ids == byte_tokenizer("012cdef").input_ids and found.truncated == 9
    assert len(found.ids) == 8
    with pytest.raises(ConfigError, match="leaves nothing"):
        truncate_middle(byte_tokenizer, text, 1)


def test_the_chat_template_goes_around_the_cut_text(byte_tokenizer):
    chat = copy.copy(byte_tokenizer)
    chat.chat_template = "<s>[{{ messages[0]['content'] }}]"
    found = model_input(chat, "0123456789abcdef", max_length=8, chat=True)
    assert found.ids == byte_tokenizer("[012cdef]").input_ids  # one <s>, not two
    check_template(chat, "official", True)
    for template in ("official", "always"):
        with pytest.raises(ConfigError, match=r"no chat template.*task\.template=never"):
            check_template(byte_tokenizer, template, True)
    check_template(byte_tokenizer, "official", False)
    check_template(byte_tokenizer, "never", True)
    with pytest.raises(ConfigError, match="unknown"):
        check_template(chat, "sometimes", True)


@pytest.mark.realdata
def test_the_real_sample(real_data):
    """Every row reads; the sample's templates are the official ones, but for two."""
    folder = real_data / "longbench"
    templates = json.loads((folder / "prompt_templates.json").read_text())
    same = []
    for name in templates:
        assert len(read_task(folder, name)) > 1
        task = find_task(name)
        same.append(templates[name].strip() == (task.fixed + task.question).strip())
    assert len(same) - sum(same) == 2  # narrativeqa and qasper: see the sample's README
