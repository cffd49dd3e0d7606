"""Runs of downstream tasks are averaged over seeds; baselines stand beside them once."""

import csv
import json
import math
import statistics

import pytest

from lcframework.run.report import report
from lcframework.scoring.seeds import mean_over_seeds

NOTE = "rebuilt split, not comparable with TAPE's leaderboard"


def write_run(folder, seed, value, method="lcplm 0.57M, fine-tuned", task="stability"):
    row = {"task": task, "test": "test", "metric": "spearman", "n": 9, "note": NOTE}
    rows = [
        {**row, "method": method, "value": value, "low": 0.0, "high": 1.0},
        {**row, "method": "words", "value": 0.25, "low": 0.125, "high": 0.5},
    ]
    record = {"run": {"seed": seed}, "data": {}, "metrics": {}, "tables": {"tape": rows}}
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(record))


def test_means_over_seeds(tmp_path, capsys):
    values = [0.5, 0.75, 0.25]
    for seed, value in enumerate(values):
        write_run(tmp_path / f"s{seed}", seed, value)
    write_run(tmp_path / "other", 0, 0.1, "esm2 0.54M, frozen")
    rows = {row["method"]: row for row in report([tmp_path])}
    own = rows["lcplm 0.57M, fine-tuned"]
    spread = 4.303 * statistics.stdev(values) / math.sqrt(3)  # t of two degrees of freedom
    assert own["value"] == 0.5 and own["seeds"] == 3
    assert own["low"] == pytest.approx(0.5 - spread) and own["high"] == pytest.approx(0.5 + spread)
    assert rows["esm2 0.54M, frozen"]["low"] is None  # one seed says nothing of the spread
    assert (rows["words"]["low"], rows["words"]["high"]) == (0.125, 0.5)
    assert NOTE in capsys.readouterr().out
    with (tmp_path / "report_downstream.csv").open(newline="") as file:
        assert {row["note"] for row in csv.DictReader(file)} == {NOTE}
    assert (tmp_path / "report_downstream.png").is_file()


def test_student_becomes_normal():
    found = mean_over_seeds([0.0, 1.0] * 30)
    assert found.high - found.value == pytest.approx(1.96 * 0.5042 / math.sqrt(60), rel=1e-3)
    assert math.isnan(mean_over_seeds([1.0]).low)
