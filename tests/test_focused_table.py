"""The comparison of Focused Learning's variants: which runs, which differences, all of it."""

import json
import sys
from pathlib import Path

import pytest
from focused_examples import llm, nq_files

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import focused_runs
import focused_table
from focused_runs import LONG, RETRIEVAL, Run, best_rates, grid, overrides, planned


def given(tmp_path, *more):
    files = ["--questions", str(tmp_path / "nq.jsonl"), "--passages", str(tmp_path / "p.jsonl")]
    folders = ["--to", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    return focused_table.options([*files, *folders, *more])


def test_the_plan_is_the_issues(tmp_path):
    runs = planned(given(tmp_path), {"vanilla": 1e-3, "full": 2e-3})
    seeds = {}
    for run in runs:
        seeds.setdefault(run.variant, []).append(run.seed)
    three = ("vanilla", "full", "augmentation", LONG, RETRIEVAL)
    one = ("consistency", "contrast", "full_oracle", "full_random", "raft")
    assert seeds == {name: [1, 2, 3] for name in three} | {name: [1] for name in one}
    assert [run.variant for run in runs[:5]] == list(three) and runs[-1].variant in one
    steps = {run.variant: run.steps for run in runs}
    assert steps[LONG] == 3 * steps["vanilla"] == 3 * steps["full"]
    rates = {run.variant: run.lr for run in runs}
    assert rates["contrast"] == 2e-3 and rates["consistency"] == rates[LONG] == 1e-3
    assert {(run.variant, run.lr) for run in grid(given(tmp_path, "--rates", "1e-3", "1e-2"))} == {
        (name, rate) for name in ("vanilla", "full") for rate in (1e-3, 1e-2)
    }


def test_rates_are_those_of_the_smallest_validation_loss(tmp_path):
    options = given(tmp_path, "--lr", "7e-4")
    assert best_rates(options)[0] == {"vanilla": 7e-4, "full": 7e-4}
    for rate, loss in ((1e-3, 2.0), (1e-2, 1.5)):
        folder = Run("full", 1, rate, 60, tuning=True).folder(options.to)
        folder.mkdir(parents=True)
        about = {"variant": "full", "lr": rate, "steps": 60, "val/loss": loss}
        (folder / "tune.json").write_text(json.dumps(about))
    rates, found = best_rates(options)
    assert rates == {"vanilla": 7e-4, "full": 1e-2} and len(found) == 2


def test_retrieval_at_inference_is_the_vanilla_run(tmp_path):
    options = given(tmp_path)
    folder = options.to / "vanilla_seed2" / "checkpoints"
    folder.mkdir(parents=True)
    for step in (100, 200):
        (folder / f"{step:08d}.ckpt").touch()
    found = overrides(Run(RETRIEVAL, 2, 1e-3, 200), options)
    assert "fit=false" in found and f"ckpt_path={folder}/00000200.ckpt" in found
    assert "variant=vanilla" in overrides(Run(LONG, 1, 1e-3, 600), options)


def answers(shift, questions=6):
    """Scores of questions alone and among ten; `shift` is what distractors cost each."""
    found = {}
    for q in range(questions):
        for task, nats in (("gold only", 1.0), ("10 docs, gold at 0", 1.0 + shift + 0.1 * q)):
            score = None if q == 5 else float(task == "gold only" or q % 2)
            found[f"q{q}/{task}"] = {"task": task, "document": f"q{q}", "score": score,
                                     "gold_nats": nats, "answer": "a"}  # fmt: skip
    return found


def test_rows_are_paired_by_question_and_seed():
    found = {
        "vanilla": {1: answers(0.5), 2: answers(0.7)},
        "full": {1: answers(0.2), 2: answers(0.4)},
        "raft": {1: answers(0.5)},
    }
    rows = focused_table.table_rows(found, [10])
    assert {row["documents"] for row in rows} == {1, 10}
    (row,) = [r for r in rows if r["variant"] == "full" and "gap, nats" in r["quantity"]]
    assert row["minus_vanilla"] == pytest.approx(-0.3) and row["minus_vanilla_seeds"] == 2
    assert row["minus_vanilla_low"] == pytest.approx(-0.3)  # each question alike
    assert row["value"] == pytest.approx(0.3 + 0.25) and row["questions"] == 6
    assert row["by_seed"] == pytest.approx([0.45, 0.65]) and row["minus_equal_compute"] is None
    (row,) = [r for r in rows if r["variant"] == "raft" and "gap, nats" in r["quantity"]]
    assert row["minus_vanilla"] == pytest.approx(0) and row["minus_vanilla_seeds"] == 1
    (row,) = [r for r in rows if r["variant"] == "full" and r["quantity"].startswith("distraction")
              and "points" in r["quantity"]]  # fmt: skip
    assert row["questions"] == 5 and row["value"] == pytest.approx(60)
    text = focused_table.markdown(rows, ["full_seed3"])
    assert "Missing, not run or not complete: full_seed3." in text
    assert "| 10 | full | 0.550 | 0.450, 0.650 | -0.300 (-0.300 to -0.300) | - | 6 |" in text


@pytest.mark.slow
def test_from_tuning_to_tables_and_on_from_there(tmp_path, monkeypatch, capsys):
    questions, passages = nq_files(tmp_path, 24)
    model, tokenizer = llm()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setenv("LCF_STORES", str(tmp_path / "stores"))
    command = [
        "--questions", str(questions), "--passages", str(passages), "--to", str(tmp_path / "runs"),
        "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--steps", "2",
        "--seeds", "1", "--tune", "--tune-steps", "1", "--rates", "1e-3", "--written", "2",
        "--threads", "1", "--variants", "vanilla", "full", RETRIEVAL, "--",
        "data.split_sizes=[12,4,8]", "data.train_documents=[3]", "data.test_documents=[3]",
        "data.retrieval.top_k=1", "data.pool_size=4", "task.template=never",
        "task.test_tokens=4000", "task.pass_tokens=2000", "trainer.log_every_n_steps=1",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["focused_table.py", *command])
    focused_table.main()
    assert "3 of 3 runs complete" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["missing"] == [] and record["failed"] == {} and len(record["tuning"]) == 2
    assert {row["variant"] for row in record["rows"]} == {"vanilla", "full", RETRIEVAL}
    for name in (
        "table.md",
        "table.csv",
        "map_full.png",
        "map_full.csv",
        "configs/full_seed1.yaml",
    ):
        text = (tmp_path / "out" / name).read_bytes()
        assert text and str(tmp_path).encode() not in text
    monkeypatch.setattr(focused_runs, "_work", None)  # nothing is left to be done
    focused_table.main()
    assert "3 of 3 runs complete" in capsys.readouterr().out
