"""Evaluation of a checkpoint given as a directory or a file, and the checkpoints it must refuse."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel

from lcframework.errors import CheckpointError
from lcframework.paths import sample_dir
from lcframework.run.export import export
from lcframework.run.networks import find_checkpoint, load_network

TEST_DATA = f"data.test={sample_dir() / 'valid.fasta.gz'}"
SMALL = ["model.d_model=16", "model.n_layers=1", "data.max_tokens=4096", "trainer.max_steps=4"]


def call(folder, module, *arguments, preexec=None):
    env = {**os.environ, "LCF_STORES": str(folder / "stores"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"lcframework.{module}", *arguments, f"paths.runs={folder}"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        env=env,
        cwd=folder,
        check=False,
        preexec_fn=preexec,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    done = call(
        folder, "train", "experiment=lcplm/quickstart", *SMALL, "test=false", "run_id=small"
    )
    assert done.returncode == 0, done.stderr
    return folder / "lcplm-quickstart" / "small"


def test_a_directory_and_its_file_give_the_same_numbers(trained):
    folder, values = trained.parents[1], []
    file = find_checkpoint(str(trained))
    for name, where in (("directory", trained), ("file", file)):
        done = call(
            folder,
            "evaluate",
            "experiment=lcplm/evaluate",
            f"checkpoint={where}",
            TEST_DATA,
            f"run_id={name}",
        )
        assert done.returncode == 0, done.stderr
        results = json.loads((folder / "lcplm-evaluate" / name / "results.json").read_text())
        assert results["run"]["checkpoint"] == str(file)
        values.append(results["metrics"]["test/perplexity"])
    assert values[0] == values[1]
    assert 1 < values[0]["value"] < 128


def test_a_missing_place_and_an_empty_one_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: there is no such file"):
        find_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="holds no valid"):
        find_checkpoint(str(tmp_path))


def test_an_export_is_evaluated_like_the_checkpoint_it_came_from(trained, tmp_path):
    file = find_checkpoint(str(trained))
    export(str(trained), tmp_path / "exported")
    network = load_network(file)
    again = load_network(find_checkpoint(str(tmp_path / "exported")))
    assert again.hparams == network.hparams
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    AutoModel.from_pretrained(tmp_path / "exported").save_pretrained(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match=r"an encoder without lm_head\.weight"):
        load_network(tmp_path / "encoder")


def altered(trained, tmp_path, change):
    checkpoint = torch.load(find_checkpoint(str(trained)), weights_only=True)
    change(checkpoint)
    path = tmp_path / "altered.ckpt"
    torch.save(checkpoint, path)
    return path


def test_a_checkpoint_of_another_size_is_refused(trained, tmp_path):
    def widen(checkpoint):
        checkpoint["lcframework_model"]["hparams"]["d_model"] = 24

    with pytest.raises(CheckpointError, match=r"says it holds lcplm.*weights do not fit") as caught:
        load_network(altered(trained, tmp_path, widen))
    assert "size mismatch" in str(caught.value)


def test_a_checkpoint_of_something_else_is_refused(trained, tmp_path):
    path = altered(trained, tmp_path, lambda checkpoint: checkpoint.pop("lcframework_model"))
    with pytest.raises(CheckpointError, match="does not name a network of this framework"):
        load_network(path)


def test_resuming_from_a_checkpoint_of_another_size_is_one_paragraph(trained):
    folder = trained.parents[1]
    done = call(
        folder,
        "train",
        "experiment=lcplm/quickstart",
        *SMALL,
        "model.d_model=24",
        "run_id=other",
        f"ckpt_path={find_checkpoint(str(trained))}",
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "d_model" in done.stderr
    assert "16" in done.stderr
    assert "24" in done.stderr


def _small_files_only():
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes past the limit then fail with EFBIG
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_disk_that_fills_while_the_store_is_written(tmp_path):
    done = call(
        tmp_path,
        "train",
        "experiment=lcplm/quickstart",
        *SMALL,
        preexec=_small_files_only,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "stores" in done.stderr
    left = [path for path in (tmp_path / "stores").rglob("*") if path.is_file()]
    assert all(path.stat().st_size < 1000 for path in left), left


@pytest.mark.slow
def test_two_ranks_report_what_one_reports(trained):
    """The scores are sums over proteins gathered from all ranks, so ranks change only rounding."""
    folder, values, tables = trained.parents[1], {}, {}
    for name, more in (
        ("one-rank", []),
        ("two-ranks", ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
                       "trainer.precision=32-true"]),
    ):  # fmt: skip
        done = call(
            folder,
            "evaluate",
            "experiment=lcplm/length_bins",
            f"checkpoint={trained}",
            TEST_DATA,
            f"run_id={name}",
            "callbacks.lengths.contexts=[512,1024]",
            *more,
        )
        assert done.returncode == 0, done.stderr
        results = json.loads((folder / "lcplm-length_bins" / name / "results.json").read_text())
        values[name], tables[name] = results["metrics"], results["tables"]
    for key, value in values["one-rank"].items():
        assert values["two-ranks"][key]["n"] == value["n"], key
        assert values["two-ranks"][key]["value"] == pytest.approx(value["value"], rel=1e-5), key
    for table in ("scores_by_length", "loss_by_end_distance", "loss_by_context"):
        for one, two in zip(tables["one-rank"][table], tables["two-ranks"][table], strict=True):
            for key, value in one.items():
                if isinstance(value, float):
                    value = pytest.approx(value, rel=1e-4, abs=1e-5)
                assert two[key] == value, (table, key)
