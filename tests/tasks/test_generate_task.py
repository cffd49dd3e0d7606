"""Generated answers: what the model is given, what is not run, resumed evaluations."""

import json

import lightning.pytorch as pl
import pytest
import torch
from tiny_decoders import byte_tokenizer, tiny_model

from lcframework.callbacks.generation_report import GenerationReport
from lcframework.data.generation import GenerationDataModule, GenerationItem
from lcframework.errors import ConfigError, RunDirError
from lcframework.models.llm.identity import model_fingerprint, tokenizer_fingerprint
from lcframework.tasks.generate import GenerationTask

CHAT = "[{{ messages[0]['content'] }}]"


def item(number, task="qasper", **changes):
    given = {
        "suite": "longbench", "task": task, "key": f"{task}/{number}", "number": number,
        "document": f"{task}/{number}", "fixed": f"Text {number}. ", "question": "Question?",
        "references": ("red", "blue"), "max_new_tokens": 6, "length": 4000 * number,
    }  # fmt: skip
    return GenerationItem(**given | changes)


class Items(GenerationDataModule):
    def __init__(self, items):
        super().__init__("here")
        self.given = items

    def read(self):
        return self.given


@pytest.fixture(scope="module")
def llm():
    return tiny_model(attention="sdpa", max_position_embeddings=128), byte_tokenizer()


def trainer(folder, callbacks=()):
    return pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), default_root_dir=folder,
    )  # fmt: skip


def evaluate(folder, llm, items, **settings):
    report = GenerationReport(folder, buckets=True)
    task = GenerationTask(llm, **{"template": "never"} | settings)
    trainer(folder, [report]).test(task, datamodule=Items(items), verbose=False)
    return report.results


def lines(folder):
    return [
        json.loads(one) for one in (folder / "answers" / "rank0.jsonl").read_text().splitlines()
    ]


def greedy(model, ids, steps):
    """One forward pass over everything per token."""
    start = len(ids)
    for _ in range(steps):
        logits = model(torch.tensor([ids])).logits
        ids = [*ids, int(logits[0, -1].argmax())]
    return ids[start:]


def test_the_answer_is_the_greedy_one(llm):
    model, tokenizer = llm
    one = item(1)
    found = GenerationTask(llm, template="never")(one)
    ids = tokenizer(one.prompt).input_ids
    assert found.text == tokenizer.decode(greedy(model, ids, 6), skip_special_tokens=True)
    assert (found.prompt_tokens, found.new_tokens, found.truncated) == (len(ids), 6, 0)


def test_a_one_line_answer_has_a_token_and_ends_at_a_line_end(llm, monkeypatch):
    model, tokenizer = llm
    line_end = tokenizer.encode("\n")[-1]
    one = item(1, "samsum", one_line=True)
    likes = {"first": line_end, "then": tokenizer.encode("a")[0]}

    def scripted(*args, **kwargs):
        out = original(*args, **kwargs)
        out.logits[..., likes["first"]] = 1e4  # a line end always
        out.logits[..., likes["then"]] = 9e3
        return out

    original = model.forward
    monkeypatch.setattr(model, "forward", scripted)
    # the line end is forbidden as first token, so: one letter, then the end
    found = GenerationTask(llm, template="never")(one)
    assert found.text == "a\n" and found.new_tokens == 2
    monkeypatch.setitem(likes, "first", likes["then"])
    assert GenerationTask(llm, template="never")(one).new_tokens == 6


def test_the_template_policy(llm):
    model, tokenizer = llm
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    plain, chat = item(1, "trec", chat=False), item(1)
    for policy, wants in (("official", (False, True)), ("always", (True, True)),
                          ("never", (False, False))):  # fmt: skip
        task = GenerationTask((model, tokenizer), template=policy)
        got = tuple(len(task.encode(one).ids) - len(one.prompt) == 2 for one in (plain, chat))
        assert got == wants, policy


def test_a_model_without_template_is_refused_before_the_first_item(llm, tmp_path):
    with pytest.raises(ConfigError, match=r"no chat template.*template=never"):
        evaluate(tmp_path, llm, [item(1)], template="official")
    assert not (tmp_path / "answers").exists()
    evaluate(
        tmp_path, llm, [item(1, "trec", chat=False, all_classes=("red",))], template="official"
    )


def test_no_room_is_refused_or_counted_and_never_cut_silently(llm, tmp_path):
    with pytest.raises(ConfigError, match=r"no room to generate.*task\.max_length=122"):
        evaluate(tmp_path / "a", llm, [item(1)], max_length=123)
    long = item(2, fixed="x" * 120)
    found = evaluate(tmp_path / "b", llm, [item(1), long])
    (row,) = found["tables"]["tasks"]
    assert (row["n"], row["not_run"], row["missing"]) == (1, 1, 0)
    kept = {one["key"]: one for one in lines(tmp_path / "b")}
    assert kept[long.key]["answer"] is None
    assert kept[long.key]["not_run"] == "129 + 6 tokens, 128 positions"
    found = evaluate(tmp_path / "c", llm, [item(1), long], max_length=100)
    (row,) = found["tables"]["tasks"]
    assert (row["n"], row["not_run"], row["truncated"]) == (2, 0, 1)
    assert {one["truncated"] for one in lines(tmp_path / "c")} == {0, 29}
    (row,) = evaluate(tmp_path / "d", llm, [long])["tables"]["tasks"]
    assert row["score"] is None and row["not_run"] == 1


def test_an_interrupted_evaluation_goes_on_without_duplicates(llm, tmp_path):
    items = [item(number) for number in range(5)]
    whole = evaluate(tmp_path / "whole", llm, items)
    evaluate(tmp_path / "run", llm, items[:2])
    file = tmp_path / "run" / "answers" / "rank0.jsonl"
    with file.open("a") as stream:
        stream.write('{"key": "qasper/2", "answ')  # killed while it wrote
    made = []
    original = GenerationTask.forward
    GenerationTask.forward = lambda self, one: made.append(one.key) or original(self, one)
    try:
        again = evaluate(tmp_path / "run", llm, items)
        evaluate(tmp_path / "run", llm, items)  # everything is there
    finally:
        GenerationTask.forward = original
    assert made == ["qasper/2", "qasper/3", "qasper/4"]
    assert [one["key"] for one in lines(tmp_path / "run")] == [one.key for one in items]
    assert again == whole
    answers = [[one["answer"] for one in lines(tmp_path / name)] for name in ("run", "whole")]
    assert answers[0] == answers[1]


def test_other_settings_data_and_damage_are_refused(llm, tmp_path):
    evaluate(tmp_path, llm, [item(1)])
    with pytest.raises(RunDirError, match="other settings .max_length: None -> 90"):
        evaluate(tmp_path, llm, [item(1)], max_length=90)
    other = tiny_model(attention="sdpa", max_position_embeddings=128, seed=1), llm[1]
    with pytest.raises(RunDirError, match="model: "):
        evaluate(tmp_path, other, [item(1)])
    with pytest.raises(RunDirError, match="'qasper/1' has changed"):
        evaluate(tmp_path, llm, [item(1, references=("green",))])
    with (tmp_path / "answers" / "rank0.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(RunDirError, match=r"rank0\.jsonl, line 2: no answer of ours"):
        evaluate(tmp_path, llm, [item(1)])


def test_scores_of_known_answers(llm, tmp_path, monkeypatch):
    texts = {"qasper/0": "red", "qasper/1": "a red car", "trec/0": "red or blue", "lcc/0": " "}
    items = [
        item(0), item(1), item(0, "trec", all_classes=("red", "blue"), references=("red",)),
        item(0, "lcc", references=("x = 1",)),
    ]  # fmt: skip
    original = GenerationTask.forward

    def scripted(self, one):
        found = original(self, one)
        return type(found)(texts[one.key], "", 1, 0, 1, 0.0)

    monkeypatch.setattr(GenerationTask, "forward", scripted)
    found = evaluate(tmp_path, llm, items)
    table = {row["task"]: row for row in found["tables"]["tasks"]}
    assert table["qasper"]["score"] == 83.33  # (1 + 2/3) / 2
    assert table["trec"]["score"] == 50.0 and table["lcc"]["empty"] == 1
    assert found["metrics"]["test/qasper"]["n"] == 2
    averages = {row["average"]: row for row in found["tables"]["averages"]}
    assert averages["all tasks"]["of"] == 21 and averages["code"]["tasks"] == 1
    assert found["tables"]["length_buckets"][0] == {
        "task": "qasper", "0-4k": 100.0, "4-8k": 66.67, "8k+": None
    }  # fmt: skip


def test_fingerprints_tell_models_and_tokenizers_apart(llm):
    model, tokenizer = llm
    same = tiny_model(attention="eager", max_position_embeddings=128)
    assert model_fingerprint(model) == model_fingerprint(same)
    assert model_fingerprint(model) != model_fingerprint(same.to(torch.bfloat16))
    changed = byte_tokenizer()
    assert tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(changed)
    changed.chat_template = CHAT
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(changed)


def test_predict_and_bad_settings(llm, tmp_path):
    data = Items([item(1)])
    (found,) = trainer(tmp_path).predict(GenerationTask(llm, template="never"), datamodule=data)
    assert found.new_tokens == 6
    with pytest.raises(ConfigError, match="unknown"):
        GenerationTask(llm, template="maybe")
    with pytest.raises(ValueError, match="at least 2"):
        GenerationTask(llm, template="never", max_length=1)


def test_two_ranks_share_the_items(llm, tmp_path):
    items = [item(number) for number in range(5)]
    alone = evaluate(tmp_path / "one", llm, items)
    folder = tmp_path / "two"
    pair = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_spawn", logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[GenerationReport(folder)],
    )  # fmt: skip
    pair.test(GenerationTask(llm, template="never"), datamodule=Items(items), verbose=False)
    shares = [
        [json.loads(line)["key"] for line in file.read_text().splitlines()]
        for file in sorted((folder / "answers").glob("rank*.jsonl"))
    ]
    assert shares == [["qasper/0", "qasper/2", "qasper/4"], ["qasper/1", "qasper/3"]]
    table = (folder / "figures" / "tasks.csv").read_text()
    assert table == (tmp_path / "one" / "figures" / "tasks.csv").read_text()
    # one process goes on where two were: nothing is left to do, and the scores are the same
    assert evaluate(folder, llm, items) == alone
