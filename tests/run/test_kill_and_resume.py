"""Kill -9 and resume: the same loss trace as the unbroken run, bit for bit on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lcframework.run.csv_log import read_metrics

SLOW_SYNC = """
import os, time
real = os.fsync
os.fsync = lambda descriptor: (time.sleep(0.3), real(descriptor))
from lcframework.train import main
main()
"""
OVERRIDES = [
    "experiment=lcplm/quickstart", "model.d_model=16", "model.n_layers=1",
    "data.max_tokens=16384", "trainer.max_steps=60", "trainer.log_every_n_steps=1", "test=false",
    "callbacks.checkpoint.every_n_train_steps=10", "run_id=one",
]  # fmt: skip


def start(folder: Path, *more: str, slow_disk: bool = False) -> subprocess.Popen:
    env = {**os.environ, "LCF_STORES": str(folder.parent / "stores"), "OMP_NUM_THREADS": "1"}
    program = ["-c", SLOW_SYNC] if slow_disk else ["-m", "lcframework.train"]
    command = [sys.executable, *program, *OVERRIDES, f"paths.runs={folder}", *more]
    return subprocess.Popen(
        command,
        cwd=folder.parent,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def trace(folder: Path) -> list[tuple[float, float, float]]:
    rows = read_metrics(folder / "lcplm-quickstart" / "one" / "metrics.csv")
    return [
        (row["step"], row["train/loss"], row["train/grad_norm"])
        for row in rows
        if "train/loss" in row
    ]


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    finish(start(folder))
    found = trace(folder)
    assert [step for step, *_ in found] == list(range(60))
    return folder.parent, found


def kill_when(process: subprocess.Popen, ready) -> None:
    deadline = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("moment", ["early", "during-a-checkpoint-write", "late"])
def test_killed_and_resumed_equals_unbroken(unbroken, moment):
    parent, expected = unbroken
    folder = parent / moment
    checkpoints = folder / "lcplm-quickstart" / "one" / "checkpoints"
    ready = {
        "early": lambda: (checkpoints / "00000010.ckpt.sha256").exists(),
        "during-a-checkpoint-write": lambda: (
            (checkpoints / "00000020.ckpt").exists() and any(checkpoints.glob(".*tmp-*"))
        ),
        "late": lambda: (checkpoints / "00000040.ckpt.sha256").exists(),
    }[moment]
    # A slow disk makes the moment inside a write long enough to be met.
    kill_when(start(folder, slow_disk=moment.startswith("during")), ready)
    half_written = list(checkpoints.glob(".*tmp-*"))
    assert bool(half_written) == moment.startswith("during")
    assert "resuming from" in finish(start(folder))
    assert trace(folder) == expected
    assert not list(checkpoints.glob(".*tmp-*"))


@pytest.mark.slow
def test_killed_with_data_workers_and_accumulation(unbroken):
    """Workers outlive a killed run by seconds; the next start must not wait for them."""
    parent, _ = unbroken
    more = ["data.num_workers=2", "trainer.accumulate_grad_batches=3", "data.max_length=128"]
    finish(start(parent / "workers-whole", *more))
    folder = parent / "workers-killed"
    for step in ("00000010", "00000030"):
        saved = folder / "lcplm-quickstart" / "one" / "checkpoints" / f"{step}.ckpt.sha256"
        kill_when(start(folder, *more), saved.exists)
    finish(start(folder, *more))
    assert trace(folder) == trace(parent / "workers-whole")
    assert len(trace(folder)) == 60


def test_ctrl_c_saves_the_step_and_tells_how_to_go_on(unbroken):
    parent, expected = unbroken
    folder = parent / "interrupted"
    run = folder / "lcplm-quickstart" / "one"
    process = start(folder)
    deadline = time.monotonic() + 120
    while not (run / "metrics.csv").exists() or len(trace(folder)) < 14:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "run_id=one" in output
    saved = max((run / "checkpoints").glob("*.ckpt"))
    assert int(saved.stem) >= 14
    assert str(saved) in output
    assert f"resuming from {saved}" in finish(start(folder))
    assert trace(folder) == expected


def test_a_second_process_in_a_run_directory_is_refused(unbroken):
    parent, _ = unbroken
    folder = parent / "locked"
    run = folder / "lcplm-quickstart" / "one"
    first = start(folder)
    while not (run / "config.yaml").exists():
        time.sleep(0.01)
    second = start(folder)
    output, _ = second.communicate(timeout=120)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert "in use by another process" in output


def test_other_settings_in_the_same_run_are_refused(unbroken):
    parent, _ = unbroken
    process = start(parent / "whole", "optimizer.lr=0.5")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "optimizer.lr: 0.002 -> 0.5" in output


def test_results_name_what_was_run(unbroken):
    parent, _ = unbroken
    record = json.loads(
        (parent / "whole" / "lcplm-quickstart" / "one" / "results.json").read_text()
    )
    assert record["run"]["experiment"] == "lcplm/quickstart"
    assert record["run"]["steps"] == 60
    assert record["data"]["train"]["n"] == 2000
