"""Benchmarks with squeezed attention and baselines: what is run, stored, resumed and refused."""

import json
from dataclasses import replace

import lightning.pytorch as pl
import pytest
from tiny_decoders import DOCUMENT, byte_tokenizer, tiny_model

from lcframework.callbacks.method_figures import family
from lcframework.callbacks.squeezed_benchmark_report import SqueezedBenchmarkReport
from lcframework.data.generation import GenerationDataModule, GenerationItem
from lcframework.errors import ConfigError, RunDirError
from lcframework.models.squeezed import SqueezedContext
from lcframework.models.squeezed.hierarchy import ClusterPlan
from lcframework.models.squeezed.methods import Method
from lcframework.run.report_methods import cost_summary, method_summary
from lcframework.tasks.generate import GenerationTask
from lcframework.tasks.squeezed_generate import SqueezedGenerationTask

PLAN = ClusterPlan(window=16)
QUESTIONS = ("What costs 3 coins?", "Where is item 7 from?", "And item 2?")


def items(documents=2):
    return [
        GenerationItem(
            suite="prefix_qa",
            task="free",
            key=f"d{d}/{n}",
            number=n,
            document=f"d{d}",
            fixed=f"Read.\n\n{DOCUMENT[40 * d :]}\n\n",
            question=f"Question: {one}\nAnswer:",
            references=("Rome",),
            max_new_tokens=5,
            chat=False,
        )
        for d in range(documents)
        for n, one in enumerate(QUESTIONS)
    ]


class Items(GenerationDataModule):
    def __init__(self, given):
        super().__init__("here")
        self.given = given

    def read(self):
        return self.given


@pytest.fixture(scope="module")
def llm():
    return tiny_model(), byte_tokenizer()


def evaluate(folder, llm, given, **settings):
    report = SqueezedBenchmarkReport(folder)
    task = SqueezedGenerationTask(
        llm, **{"template": "never", "plan": PLAN, "gold_tokens": 4} | settings
    )
    pl.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[report], default_root_dir=folder,
    ).test(task, datamodule=Items(given), verbose=False)  # fmt: skip
    return report.results


def rows(folder):
    return [
        json.loads(one) for one in (folder / "answers" / "rank0.jsonl").read_text().splitlines()
    ]


def test_a_document_is_read_once_and_dense_answers_are_those_of_the_dense_task(
    tmp_path, llm, monkeypatch
):
    built = []
    real = SqueezedContext.build
    monkeypatch.setattr(
        SqueezedContext, "build", lambda *a, **k: built.append(len(a[2])) or real(*a, **k)
    )
    results = evaluate(tmp_path, llm, items(), squeeze=Method(sparsity=0.8))
    assert len(built) == 2
    plain = GenerationTask((tiny_model(attention="sdpa"), llm[1]), "never")
    for row, item in zip(rows(tmp_path), items(), strict=True):
        assert row["readings"]["dense"]["text"] == plain(item).text
        assert row["answer"] == row["readings"]["squeezed"]["text"]
        assert row["context_tokens"] == built[int(item.document[1])]
        assert row["bytes"]["keys_values"] > row["bytes"]["lookup"] > 0
    metrics = results["metrics"]
    assert 0 < metrics["test/budget"]["value"] < 0.5 and metrics["test/budget"]["n"] == 2
    assert metrics["test/kl"]["value"] > 0
    tables = results["tables"]
    assert [row["method"] for row in tables["methods"]] == ["dense", "squeezed"]
    assert [row["layer"] for row in tables["kept_by_layer"]] == [0, 1, 2] * 2
    assert [row["questions"] for row in tables["cost"]] == [3, 3]


def test_sparsity_0_loses_nothing(tmp_path, llm):
    results = evaluate(tmp_path, llm, items(1), squeeze=Method(sparsity=0.0))
    metrics = results["metrics"]
    assert metrics["test/kl"]["value"] < 1e-9 and metrics["test/agreement"]["value"] == 1
    assert metrics["test/difference"]["value"] == 0 and metrics["test/budget"]["value"] == 1


def test_a_baseline_gets_the_budget_measured_on_the_same_question(tmp_path, llm):
    evaluate(tmp_path, llm, items(1), squeeze=Method(method="recent", sparsity=0.7))
    found = rows(tmp_path)
    for row in found:
        readings = row["readings"]
        assert list(readings) == ["dense", "squeezed", "recent"]
        assert readings["squeezed"]["text"] is None  # measured, not written
        assert readings["recent"]["budget"] == pytest.approx(
            readings["squeezed"]["budget"], abs=0.01
        )
    own = evaluate(tmp_path / "b", llm, items(1), squeeze=Method(method="recent", share=0.4))
    assert own["metrics"]["test/budget"]["value"] == pytest.approx(0.4, abs=0.01)
    again = evaluate(tmp_path / "c", llm, items(1)[:1], squeeze=Method(method="dense"))
    assert again["tables"]["methods"][-1]["method"] == "dense_again"


def test_what_cannot_be_run_is_counted(tmp_path, llm):
    given = items(1)
    short = replace(given[0], key="short", fixed="Short. ", document="s")
    long = replace(given[0], key="long", fixed=DOCUMENT * 3, document="l")
    results = evaluate(tmp_path, llm, [given[0], short, long], squeeze=Method())
    (row,) = results["tables"]["tasks"]
    assert row["n"] == 1 and row["not_run"] == 2
    said = {one["key"]: one["not_run"] for one in rows(tmp_path)}
    assert "kept exactly" in said["short"] and "1024 positions" in said["long"]
    assert not said["d0/0"]
    nothing = evaluate(tmp_path / "n", llm, [short], squeeze=Method())
    assert "methods" not in nothing["tables"] and nothing["tables"]["tasks"][0]["not_run"] == 1
    tiny_pages = Method(method="quest", sparsity=0.9, page=1)
    quest = evaluate(tmp_path / "q", llm, given[:1], squeeze=tiny_pages)
    assert quest["tables"]["tasks"][0]["not_run"] == 1
    assert "reads to choose" in rows(tmp_path / "q")[0]["not_run"]


def test_resumed_with_the_same_settings_only(tmp_path, llm):
    squeeze = Method(sparsity=0.7)
    first = evaluate(tmp_path, llm, items(1)[:1], squeeze=squeeze)
    both = evaluate(tmp_path, llm, items(1)[:2], squeeze=squeeze)
    assert [row["key"] for row in rows(tmp_path)] == ["d0/0", "d0/1"]  # none twice
    assert first["tables"]["methods"][0]["items"] == 1
    assert both["tables"]["methods"][0]["items"] == 2
    for changed in (
        {"squeeze": Method(sparsity=0.8)},
        {"squeeze": squeeze, "plan": ClusterPlan(window=17)},
        {"squeeze": squeeze, "gold_tokens": 5},
    ):
        with pytest.raises(RunDirError, match="other settings"):
            evaluate(tmp_path, llm, items(1), **changed)
    moved = replace(items(1)[0], references=("Lima",))
    with pytest.raises(RunDirError, match="has changed"):
        evaluate(tmp_path, llm, [moved], squeeze=squeeze)


def test_bad_settings_are_refused_before_the_first_item(tmp_path, llm):
    with pytest.raises(ConfigError, match="no chat template"):
        evaluate(tmp_path, llm, items(1), template="always")
    with pytest.raises(ConfigError, match="no room"):
        evaluate(tmp_path, llm, items(1), max_length=1023)
    assert not (tmp_path / "answers").exists()


def test_the_report_of_several_runs(tmp_path, llm):
    records = []
    for name, squeeze in (("a", Method(sparsity=0.8)), ("b", Method(method="oracle"))):
        results = evaluate(tmp_path / name, llm, items(2), squeeze=squeeze)
        records.append({"run": {}, **results})
    summary = method_summary(["a", "b"], records)
    assert [row["method"] for row in summary] == [
        "dense",
        "squeezed 0.8 (a)",
        "oracle 0.9 (b)",
    ]
    first, second = cost_summary(["a", "b"], records)
    assert first["documents"] == 2 and second["break_even_questions"] is None
    assert [family(row["method"]) for row in summary] == ["dense", "squeezed", "oracle"]
    assert family("squeeze 70") == "squeeze" and family("quest @ squeeze 90") == "quest"
    slow = json.loads(json.dumps(records[0]))
    for one in slow["tables"]["cost"]:
        one |= {"dense_seconds": 6.0, "squeezed_seconds": 3.0, "dense_tokens": 15,
                "squeezed_tokens": 30, "cluster_s": 3.0, "calibrate_s": 1.0}  # fmt: skip
    (row,) = cost_summary(["a"], [slow])
    assert row["break_even_questions"] == pytest.approx(4.0 / 1.5)
    assert row["dense_token_ms"] == pytest.approx(400) and row["token_ms"] == pytest.approx(100)
