"""Measures in the test and in the loop, on a tiny model."""

import csv
import json

import lightning.pytorch as pl
import pytest
import torch
from focused_examples import custom_rows, llm

from lcframework.callbacks.focused_report import AnswersInLoop, FocusedReport, answered
from lcframework.data.focused.datamodule import (
    CustomDataModule,
    QasperDataModule,
    QualityDataModule,
)
from lcframework.data.retrieval.chunkers import WordWindows
from lcframework.data.retrieval.retrievers import BM25
from lcframework.data.retrieval.rule import Retrieval
from lcframework.errors import ConfigError
from lcframework.models.focused.lora import LoRA
from lcframework.scoring.focused import measures
from lcframework.tasks.focused_generation import FocusedGeneration
from lcframework.tasks.focused_likelihood import option_losses
from lcframework.tasks.focused_qa import FocusedQATask
from lcframework.tasks.optimizers import WarmupCosineAdamW

STORY = "The king slept. " + " ".join(f"Guard {n} did not sleep at all." for n in range(12))


def trainer(folder, callbacks, **options):
    given = {
        "max_steps": 2, "max_epochs": -1, "accelerator": "cpu", "devices": 1, "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        "default_root_dir": folder, "callbacks": callbacks, "enable_checkpointing": False,
    }  # fmt: skip
    return pl.Trainer(**given | options)


def task(**options):
    torch.manual_seed(0)
    recipe = WarmupCosineAdamW(lr=1e-3, weight_decay=0.0)
    return FocusedQATask(llm(), lora=LoRA(r=2), template="never", optimizer=recipe, **options)


def common(folder):
    rule = Retrieval(BM25(), top_k=1, cache_dir=str(folder / "cache"))
    return {"retrieval": rule, "pool_size": 3, "chat": False}


def custom(folder, n=7):
    path = folder / "rows.jsonl"
    if not path.exists():
        custom_rows(path, n)
    return CustomDataModule(path, path, path, **common(folder))


def quality(folder, **options):
    path = folder / "quality.jsonl"
    rows = [
        {"article_id": str(n), "article": STORY, "questions": [
            {"question": f"Who slept, {n}?", "options": ["a guard", "the king", "all", "no one"],
             "gold_label": 1 + n % 4, "difficult": n % 2}]}
        for n in range(6)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"chunker": WordWindows(10), **common(folder), **options}
    return QualityDataModule(train=path, valid=path, test=path, **given)


class Losses(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append(float(trainer.callback_metrics["train/loss"]))


def expected(one, items):
    found = []
    for item in items:
        answer = one(item)
        row = {"answer": answer.text, "not_run": "", "new_tokens": answer.new_tokens}
        row |= option_losses(one, item) if item.options else {}
        found.append(measures(answered(item, row)))
    names = dict.fromkeys(name for row in found for name in row)
    having = {name: [row[name] for row in found if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in having.items()}


@pytest.mark.parametrize("make", [custom, quality])
def test_validation_logs_the_data_sets_measures(make, tmp_path):
    one, module = task(), make(tmp_path)
    run = trainer(tmp_path, [AnswersInLoop(max_items=4)])
    run.validate(one, datamodule=module, verbose=False)
    wanted = expected(one, module.split("valid")[:4])
    assert ("f1" if make is custom else "by_option_likelihood") in wanted
    logged = {name.removeprefix("val/"): float(value)
              for name, value in run.callback_metrics.items()}  # fmt: skip
    assert {name: logged[name] for name in wanted} == pytest.approx(wanted, abs=1e-5)


def test_answers_in_the_loop_leave_the_training_as_it_is(tmp_path):
    seen = []
    for callbacks in ([], [AnswersInLoop(max_items=2)]):
        pl.seed_everything(3, verbose=False)
        losses = Losses()
        run = trainer(tmp_path, [losses, *callbacks], val_check_interval=1)
        run.fit(task(), datamodule=custom(tmp_path))
        assert ("val/f1" in run.callback_metrics) == bool(callbacks)
        seen.append(losses.seen)
    assert seen[0] == seen[1] and len(seen[0]) == 2
    with pytest.raises(ConfigError, match="max_items=0: give 1 or more"):
        AnswersInLoop(max_items=0)


@pytest.mark.slow
def test_two_ranks_measure_like_one(tmp_path):
    """Each answers its own questions; sums and counts are added up."""
    found = []
    for devices in (1, 2):
        module = custom(tmp_path, 12)
        module.pool_size = 6 // devices
        run = trainer(
            tmp_path, [AnswersInLoop(None)], devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
        )  # fmt: skip
        run.validate(task(), datamodule=module, verbose=False)
        found.append({name: float(value) for name, value in run.callback_metrics.items()})
    assert found[1]["val/f1"] == pytest.approx(found[0]["val/f1"], abs=1e-6)
    assert found[1]["val/words"] == pytest.approx(found[0]["val/words"], abs=1e-4)


def reported(folder, module):
    report = FocusedReport(folder)
    one = FocusedGeneration(llm(), "never")
    trainer(folder, [report]).test(one, datamodule=module, verbose=False)
    with (folder / "figures" / "items.csv").open() as file:
        return one, report, list(csv.DictReader(file))


def test_quality_is_reported_in_three_ways(tmp_path):
    one, report, items = reported(tmp_path, quality(tmp_path))
    metrics = report.results["metrics"]
    for task_name, n in (("quality_hard", 3), ("quality_easy", 3), ("all", 6)):
        for way in ("by_letter", "by_letter_likelihood", "by_option_likelihood", "gold_nats"):
            assert metrics[f"test/{task_name}/{way}"]["n"] == n
    right = [float(row["by_option_likelihood"]) for row in items]
    assert metrics["test/all/by_option_likelihood"]["value"] == pytest.approx(100 * sum(right) / 6)
    assert (tmp_path / "figures" / "measures.csv").is_file()
    module = quality(tmp_path)
    module.setup("test")
    costs = option_losses(one, module.items[0])["option_nats"]
    assert right[0] == float(costs.index(min(costs)) == module.items[0].gold_option)


def test_options_word_for_word_are_scored_as_in_scrolls(tmp_path):
    _, report, items = reported(tmp_path, quality(tmp_path, answer="text"))
    metrics = report.results["metrics"]
    assert "test/all/scrolls_em" in metrics and "test/all/by_letter" not in metrics
    assert metrics["test/all/by_option_likelihood"]["n"] == 6 and items[0]["scrolls_em"]


def test_qasper_reports_the_official_scores(tmp_path):
    answer = {"extractive_spans": ["here"], "evidence": ["The harbour stands here."]}
    float_ = {"yes_no": False, "evidence": ["FLOAT SELECTED: Table 1"]}
    qas = [
        {"question_id": "a", "question": "Where is the harbour?",
         "answers": [{"answer": answer}]},
        {"question_id": "b", "question": "What?", "answers": [{"answer": float_}]},
        {"question_id": "c", "question": "Why?", "answers": [{"answer": {"unanswerable": True}}]},
    ]  # fmt: skip
    texts = [f"The {name} stands here." for name in ("tower", "harbour", "mill", "church")]
    paper = {"abstract": "", "qas": qas, "full_text": [{"section_name": "", "paragraphs": texts}]}
    path = tmp_path / "q.json"
    path.write_text(json.dumps({"p": paper}))
    _, report, items = reported(tmp_path, QasperDataModule(test=path, **common(tmp_path)))
    metrics = report.results["metrics"]
    # One paragraph is kept of each: right for a; b wants a table, of text nothing; c nothing.
    assert [float(row["evidence_f1"]) for row in items] == [1, 0, 0]
    assert [float(row["evidence_f1_text"]) for row in items] == [1, 0, 0]
    assert metrics["test/qasper/evidence_f1"]["value"] == pytest.approx(100 / 3)
    assert "test/qasper/answer_f1" in metrics and "test/qasper/scrolls_f1" in metrics
    kinds = [name for name in metrics if "answer_f1_" in name]
    assert set(kinds) == {f"test/qasper/answer_f1_{one}" for one in
                          ("extractive", "boolean", "none")}  # fmt: skip
    assert metrics["retrieval/recall@1"]["value"] == 1.0
