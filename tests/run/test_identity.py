"""Run ids survive a requeue; a run directory admits one process."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from lcframework.errors import RunDirError
from lcframework.run.identity import RunDirLock, run_id, slug


def test_run_id_is_the_slurm_job():
    assert run_id({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"}) == "slurm-7"
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}
    assert run_id(array) == "slurm-8_3"


def test_run_id_in_an_interactive_allocation_is_a_time_stamp():
    assert not run_id({"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "interactive"}).startswith("slurm")


def test_slug_is_one_safe_folder_name():
    assert slug("lcplm/quick start") == "lcplm-quick-start"
    assert slug("../..") not in ("", ".", "..")
    assert slug("model=lcplm_tiny,seed=1") == "model=lcplm_tiny-seed=1"


HOLDER = """
import os, sys, time
from pathlib import Path
from lcframework.run.identity import RunDirLock
with RunDirLock(Path(sys.argv[1])):
    child = sys.argv[2] == "forks" and os.fork() == 0
    if child or sys.argv[2] == "alone":
        print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("forks", ["forks", "alone"])
def test_second_process_is_refused_and_told_who_holds_the_lock(tmp_path, forks):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), forks],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunDirError, match=f"pid {holder.pid} on"), RunDirLock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    try:
        with RunDirLock(tmp_path):  # nor does a child of it that lives on
            assert (tmp_path / ".lock").is_file()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)
