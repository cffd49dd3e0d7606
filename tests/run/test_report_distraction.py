"""Runs tested among distractors, compared: gaps beside each other and paired."""

import csv

import pytest

from lcframework.errors import RunDirError
from lcframework.files import write_csv, write_json
from lcframework.run.report import report
from lcframework.scoring.distraction import gaps
from lcframework.scoring.task_table import task_table

TASKS = ("gold only", "3 docs, gold at 0", "3 docs, gold at 2", "3 docs, gold at 0, random")


def run(folder, scores, digest="p", written=True):
    """`scores`: of each question, one for each of `TASKS`; what was not right costs a nat more."""
    rows = [
        {
            "key": f"{n}/{task}", "task": task, "document": str(n), "digest": f"{folder.name}{n}",
            "score": score if written else None, "prompt_digest": f"{digest}{n}", "answer": "x",
            "gold_nats": 2.0 - score, "suite": "nqd", "truncated": 0,
        }
        for n, some in enumerate(scores)
        for task, score in zip(TASKS, some, strict=True)
    ]  # fmt: skip
    columns = ("key", "task", "document", "score", "digest", "prompt_digest", "gold_nats")
    items = [{name: row[name] for name in columns} for row in rows]
    write_csv(folder / "figures" / "items.csv", items)
    counts = dict.fromkeys(TASKS, len(scores))
    tables = {"tasks": task_table(rows, counts), "distraction_gap": gaps(rows)}
    write_json(folder / "results.json", {"run": {"wall_s": 1}, "metrics": {}, "tables": tables})


def test_gaps_are_paired_by_question(tmp_path, capsys):
    run(tmp_path / "a", [(1, 0, 0, 1), (1, 1, 0, 1)])
    run(tmp_path / "b", [(1, 1, 0, 1), (1, 1, 1, 1)])  # retrieved otherwise: other item digests
    run(tmp_path / "c", [(1, 1, 1, 1), (1, 1, 1, 1)], digest="other questions")
    report([tmp_path])
    with (tmp_path / "report_distraction.csv").open() as file:
        rows = {(one["run"], one["kind"]): one for one in csv.DictReader(file)}
    assert float(rows["a", ""]["gap"]) == 75 and float(rows["b", ""]["gap"]) == 25
    assert rows["a", ""]["gap_difference"] == ""  # the one that the others are held against
    assert float(rows["b", ""]["gap_difference"]) == -50 and rows["b", ""]["paired"] == "2"
    assert float(rows["b", ""]["nats_difference"]) == -0.5
    assert float(rows["b", "random"]["gap_difference"]) == 0
    assert rows["c", ""]["paired"] == "" and float(rows["c", ""]["gap"]) == 0
    assert (tmp_path / "report_distraction.png").is_file()
    assert "-50.0" in capsys.readouterr().out


def test_likelihood_alone_is_compared(tmp_path):
    run(tmp_path / "a", [(1, 0, 0, 1), (1, 1, 0, 1)], written=False)
    run(tmp_path / "b", [(1, 1, 0, 1), (1, 1, 1, 1)], written=False)
    report([tmp_path])
    with (tmp_path / "report_distraction.csv").open() as file:
        rows = {(one["run"], one["kind"]): one for one in csv.DictReader(file)}
    assert rows["b", ""]["gap_difference"] == "" and rows["b", ""]["gap"] == ""
    assert float(rows["b", ""]["nats_difference"]) == -0.5
    assert (tmp_path / "report_distraction.png").is_file()


def test_items_of_an_older_version_name_the_cure(tmp_path):
    run(tmp_path / "a", [(1, 0, 0, 1)])
    path = tmp_path / "a" / "figures" / "items.csv"
    path.write_text(path.read_text().replace("prompt_digest", "something"))
    with pytest.raises(RunDirError, match=r"items\.csv cannot be read .*prompt_digest.*run_id"):
        report([tmp_path])
