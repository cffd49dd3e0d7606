"""The command lines as a user types them: quick help, wrong arguments, exit codes."""

import os
import subprocess
import sys
import time

import pytest

from lcframework.cli.main import main
from lcframework.run.results import write_json


def call(*arguments, **environment):
    command = [sys.executable, *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=env, check=False
    )


@pytest.mark.parametrize(
    "module",
    [
        "lcframework.train",
        "lcframework.evaluate",
        "lcframework.cli.main",
        "lcframework.data.sources",
        "lcframework.models.llm.fetch",
    ],
)
def test_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert call("-c", code).returncode == 0


def test_composition_needs_no_torch_and_is_quick():
    started = time.monotonic()
    done = call(
        "-X", "importtime", "-m", "lcframework.train", "experiment=lcplm/quickstart", "--cfg", "job"
    )
    assert done.returncode == 0
    assert "LCPLM" in done.stdout
    assert " torch\n" not in done.stderr
    assert time.monotonic() - started < 20  # a hang, not a speed claim


def test_the_command_runs_as_a_module_too():
    done = call("-m", "lcframework.cli.main", "data", "list")
    assert done.returncode == 0
    assert "uniref50" in done.stdout


def test_unknown_override_fails_and_is_named():
    done = call("-m", "lcframework.train", "model.widht=3")
    assert done.returncode != 0
    assert "widht" in done.stderr


def test_unknown_model_lists_the_choices():
    done = call("-m", "lcframework.train", "model=lcplm_7b")
    assert done.returncode != 0
    assert "lcplm_8m" in done.stderr


def test_missing_data_is_one_paragraph_with_exit_code_2(tmp_path):
    done = call("-m", "lcframework.train", "data.train=nowhere/*.fasta", f"paths.runs={tmp_path}")
    assert done.returncode == 2
    assert "nowhere/*.fasta" in done.stderr
    assert "Traceback" not in done.stderr


def test_evaluating_nothing_says_so(tmp_path):
    done = call("-m", "lcframework.evaluate", "checkpoint=nowhere", f"paths.runs={tmp_path}")
    assert done.returncode == 2
    assert "no such file or run directory" in done.stderr


def test_an_unknown_data_set_is_named_with_the_known_ones(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "get", "uniref", "--to", str(tmp_path)])
    assert stop.value.code == 2
    assert "'uniref'; there are: uniref50" in capsys.readouterr().err


def test_evaluating_without_a_checkpoint_says_what_to_add(tmp_path):
    done = call("-m", "lcframework.evaluate", "data.test=a.fasta", f"paths.runs={tmp_path}")
    assert done.returncode == 2
    assert "add checkpoint=VALUE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_job_does_not_end_the_sweep(tmp_path):
    arguments = ["experiment=lcplm/quickstart", "trainer.max_steps=1", "test=false", "run_id=s"]
    done = call(
        "-m", "lcframework.train", "-m", *arguments, "model.n_layers=1", "model.d_model=-8,8",
        f"paths.runs={tmp_path}", LCF_STORES=str(tmp_path / "stores"),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("all sizes must be positive") == 2  # at once, and at the end
    assert "Traceback" not in done.stderr
    finished = [path.parent.name for path in tmp_path.rglob("results.json")]
    assert len(finished) == 1 and "d_model=8" in finished[0]


def test_report_without_runs_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path)])
    assert stop.value.code == 2
    assert "results.json" in capsys.readouterr().err


def finished_run(folder, model="net", perplexity=15.0, test="same"):
    interval = {"value": perplexity, "low": perplexity - 1, "high": perplexity + 1, "n": 30}
    amino = [{"residue": "A", "accuracy": 0.5, "n": 4}]
    bins = [{"bin": "0-127", "n": 30, "perplexity": perplexity, "low": 13.0, "high": 16.0}]
    record = {
        "run": {"seed": 1, "tokens": 1000, "wall_s": 3.0},
        "data": {"test": {"fingerprint": test}},
        "metrics": {"test/perplexity": interval, "baseline/unigram_perplexity": {"value": 18.1}},
        "tables": {"model": [{"name": model}], "amino_acids": amino, "length_bins": bins},
    }
    write_json(folder / "results.json", record)
    (folder / "metrics.csv").write_text("step,train/loss,train/tokens\n0,3.0,10\n1,2.9,20\n")


def test_report_compares_runs(tmp_path, capsys):
    finished_run(tmp_path / "a", "net-a", 15.0)
    finished_run(tmp_path / "b", "net-b", 14.0)
    main(["report", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.index("net-b") < printed.index("net-a")
    assert "18.126" not in printed
    assert "18.100" in printed
    assert (tmp_path / "report.csv").read_text().splitlines()[1].startswith("net-a,1,")
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_report_tells_runs_of_one_model_and_seed_apart(tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "lcframework.run.figures.comparison_figure", lambda runs, *_: drawn.append(list(runs))
    )
    finished_run(tmp_path / "one" / "lr=1", perplexity=15.0)
    finished_run(tmp_path / "two" / "lr=1", perplexity=14.0)
    finished_run(tmp_path / "other", "another net")
    main(["report", str(tmp_path)])
    assert drawn == [["one/lr=1: net, seed 1", "another net, seed 1", "two/lr=1: net, seed 1"]]
    printed = capsys.readouterr().out
    assert "two/lr=1: net" in printed
    lines = (tmp_path / "report.csv").read_text().splitlines()[1:]
    assert [line.rsplit(",", 1)[1] for line in lines] == ["one/lr=1", "other", "two/lr=1"]


def test_report_warns_where_the_tests_differ(tmp_path, caplog):
    finished_run(tmp_path / "a", test="these proteins")
    finished_run(tmp_path / "b", test="those proteins")
    main(["report", str(tmp_path)])
    assert "tested on different proteins" in caplog.text


def test_a_results_file_of_something_else_is_named(tmp_path, capsys):
    finished_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.json").write_text("[1, 2")
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path)])
    assert stop.value.code == 2
    assert "b/results.json is no record of a run" in capsys.readouterr().err
