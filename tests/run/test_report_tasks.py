"""Runs that answered benchmarks, compared item by item."""

import csv
import json

import pytest

from lcframework.errors import RunDirError
from lcframework.files import write_csv, write_json
from lcframework.run.report import report


def run(folder, scores, digest="d"):
    items = [
        {"key": f"qa/{n}", "task": "qa", "document": n // 2, "score": one, "digest": digest}
        for n, one in enumerate(scores)
    ]
    write_csv(folder / "figures" / "items.csv", items)
    known = [one for one in scores if one is not None]
    row = {"task": "qa", "score": 100 * sum(known) / len(known), "low": 10.0, "high": 90.0,
           "n": len(known), "not_run": len(scores) - len(known)}  # fmt: skip
    record = {"run": {"wall_s": 1}, "metrics": {}, "tables": {"tasks": [row]}}
    write_json(folder / "results.json", record)


def test_differences_are_of_the_items_that_both_runs_scored(tmp_path, capsys):
    run(tmp_path / "a", [1.0, 0.0, 1.0, None])
    run(tmp_path / "b", [0.5, None, 0.5, 1.0])
    run(tmp_path / "c", [1.0, 0.0, 1.0, 1.0], digest="other data")
    first, second, third = report([tmp_path])
    assert first["difference"] is None and first["paired"] is None
    assert second["difference"] == -50.0 and second["paired"] == 2
    assert second["difference_low"] == second["difference_high"] == -50.0  # both documents alike
    assert third["difference"] is None and third["score"] == 75.0  # items of other data: no pair
    with (tmp_path / "report_tasks.csv").open() as file:
        assert [one["run"] for one in csv.DictReader(file)] == ["a", "b", "c"]
    assert (tmp_path / "report_tasks.png").is_file()
    assert "-50.00" in capsys.readouterr().out
    assert not (tmp_path / "report.csv").exists()


def test_runs_of_both_kinds_are_told_apart(tmp_path):
    run(tmp_path / "a", [1.0, 0.0])
    record = {"run": {"wall_s": 1}, "metrics": {"test/perplexity": {"value": 9.0}}, "tables": {}}
    write_json(tmp_path / "b" / "results.json", record)
    (row,) = report([tmp_path])
    assert row["perplexity"] == 9.0
    assert (tmp_path / "report_tasks.csv").is_file() and (tmp_path / "report.csv").is_file()


def test_a_run_without_its_items_names_the_cure(tmp_path):
    run(tmp_path / "a", [1.0])
    (tmp_path / "a" / "figures" / "items.csv").unlink()
    with pytest.raises(RunDirError, match="same run_id"):
        report([tmp_path])
    assert json.loads((tmp_path / "a" / "results.json").read_text())["tables"]
