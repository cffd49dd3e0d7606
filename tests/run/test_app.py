"""What the command lines say of an error, and with which exit code they end."""

import errno
import re
import signal

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lcframework.errors import DataError, RunInterrupted
from lcframework.run.app import explain, hydra_app, multirun_first
from lcframework.run.lightning_habits import interruptible


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (DataError("a.fasta is empty."), "Error: a.fasta is empty.", 2),
        (KeyboardInterrupt(), "run_id=mine", 130),
        (RunInterrupted("Saved.", signal.SIGINT), "Saved. To go on.*run_id=mine", 130),
        (RunInterrupted("Saved.", signal.SIGTERM), "run_id=mine", 143),
        (MisconfigurationException("No gpu."), "No gpu.*lcf doctor", 2),
        (OSError(errno.ENOSPC, "No space left", "metrics.csv"), "full.*metrics.csv.*run_id", 2),
    ],
)
def test_an_error_the_user_can_mend_is_one_paragraph(error, words, code):
    text, found = explain(error, "mine")
    assert found == code
    assert "\n" not in text
    assert re.search(words, text)


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "broken disk")])
def test_other_errors_keep_their_trace(error):
    assert explain(error, "mine") is None


def test_a_ctrl_c_that_lightning_made_an_exit_is_one_again():
    def lightning():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904 (as Lightning does)

    with pytest.raises(KeyboardInterrupt), interruptible():
        lightning()
    with pytest.raises(SystemExit), interruptible():
        raise SystemExit(3)


def test_a_sweep_may_be_asked_for_between_overrides():
    given = ["experiment=a", "-m", "seed=1,2", "--config-dir", "conf"]
    assert multirun_first(given) == ["-m", "experiment=a", "seed=1,2", "--config-dir", "conf"]
    assert multirun_first(["a=1", "--multirun"]) == ["--multirun", "a=1"]
    assert multirun_first(["a=1"]) == ["a=1"]


def run_app(monkeypatch, *arguments):
    """The directories that a command line runs in."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    monkeypatch.setattr("sys.argv", ["lcf-train", *arguments])
    seen = []
    hydra_app("train", lambda cfg, _: seen.append(cfg.paths.run_dir))()
    return seen


def test_a_run_directory_named_on_the_command_line_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_app(monkeypatch, f"paths.run_dir={tmp_path}/mine") == [f"{tmp_path}/mine"]
    assert (tmp_path / "mine" / ".hydra" / "overrides.yaml").is_file()
    assert run_app(monkeypatch, "run_id=other") == [f"{tmp_path}/runs/train/other"]


def test_one_directory_for_a_multirun_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        run_app(monkeypatch, "-m", "paths.run_dir=mine", "seed=1,2")
    assert "a multirun needs one for each" in capsys.readouterr().err
