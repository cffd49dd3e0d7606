"""The task under a plain Lightning trainer, and its report."""

import json

import lightning.pytorch as pl
import pytest
import torch
from tiny_decoders import DOCUMENT, byte_tokenizer, tiny_model

from lcframework.callbacks.squeezed_report import SqueezedReport
from lcframework.data.fixed_context import FixedContextDataModule
from lcframework.models.squeezed import Squeeze, SqueezedContext
from lcframework.models.squeezed.hierarchy import ClusterPlan
from lcframework.tasks.squeezed_lm import SqueezedLMTask

PLAN = ClusterPlan(window=32)
QUESTIONS = ["What costs 3?", "Where is item 7 from?"]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "docs.jsonl"
    rows = [{"doc_id": f"d{n}", "context": DOCUMENT[n:], "questions": QUESTIONS} for n in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FixedContextDataModule(path)


def trainer(tmp_path, **options):
    return pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, **options,
    )  # fmt: skip


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_predictions_are_those_of_the_context(tmp_path, data, precision):
    llm = tiny_model(), byte_tokenizer()
    task = SqueezedLMTask(llm, PLAN, sparsities=(0.0, 0.7), max_new_tokens=5, batch_size=1)
    found = trainer(tmp_path, precision=precision).predict(task, datamodule=data)
    assert [one.batch.document_id for one in found] == ["d0", "d1"]
    context = SqueezedContext.build(*llm, DOCUMENT, window=32)
    for sparsity in (0.0, 0.7):
        want = context.ask(QUESTIONS, squeeze=Squeeze(sparsity=sparsity), max_new_tokens=5)
        assert [one.tokens for one in found[0].answers[sparsity]] == [one.tokens for one in want]
    assert found[0].context_tokens == context.length and found[0].layers == [0, 1, 2]
    assert found[0].clustered_tokens == context.length - 36


def test_the_report_of_a_test(tmp_path, data):
    task = SqueezedLMTask((tiny_model(), byte_tokenizer()), PLAN, max_new_tokens=5)
    report = SqueezedReport(tmp_path / "run")
    run = trainer(tmp_path, callbacks=[report])
    run.test(task, datamodule=data, verbose=False)
    metrics = report.results["metrics"]
    assert metrics["test/kept@0"]["value"] == metrics["test/agreement@0"]["value"] == 1
    assert 0 < metrics["test/kept@0.9"]["value"] < metrics["test/kept@0.7"]["value"] < 1
    assert metrics["test/budget@0.9"]["value"] > metrics["test/kept@0.9"]["value"]
    assert run.callback_metrics["test/kept@0.7"] == pytest.approx(metrics["test/kept@0.7"]["value"])
    rows = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").open()]
    assert len(rows) == 2 * 2 * 4
    kept = [row["kept"] for row in rows if row["sparsity"] == 0.7]
    assert metrics["test/kept@0.7"]["value"] == pytest.approx(sum(kept) / len(kept))
    table = report.results["tables"]["kept_by_layer"]
    assert [(row["sparsity"], row["layer"]) for row in table[:4]] == [
        (0.0, 0), (0.0, 1), (0.0, 2), (0.7, 0),
    ]  # fmt: skip
    assert all(row["lowest_head"] <= row["kept"] <= row["highest_head"] for row in table)
    assert (tmp_path / "run" / "figures" / "kept_by_layer.png").is_file()


@pytest.mark.parametrize("bad", [[], [0.5, 0.5]])
def test_sparsities_that_mean_nothing(bad):
    with pytest.raises(ValueError, match="sparsities"):
        SqueezedLMTask((torch.nn.Linear(1, 1), None), sparsities=bad)
