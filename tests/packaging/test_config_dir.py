"""`--config-dir`: configs of the user's own join the shipped ones."""

import subprocess
import sys

import yaml

EXPERIMENT = """# @package _global_
defaults:
  - override /model: narrow
  - override /data: sample
name: mine/first
optimizer:
  lr: 4e-3
"""
MODEL = """defaults:
  - lcplm_tiny
  - _self_
d_model: 24
"""


def composed(folder, *arguments):
    command = [sys.executable, "-m", "lcframework.train", "--config-dir", "my_conf", *arguments]
    return subprocess.run(
        [*command, "--cfg", "job"], cwd=folder, capture_output=True, text=True, timeout=60
    )


def write_configs(folder):
    for name, text in {
        "experiment/mine/first.yaml": EXPERIMENT,
        "model/narrow.yaml": MODEL,
    }.items():
        path = folder / "my_conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_own_experiment_and_model_build_on_the_shipped_ones(tmp_path):
    write_configs(tmp_path)
    done = composed(tmp_path, "experiment=mine/first", "trainer.max_steps=7")
    assert done.returncode == 0, done.stderr
    cfg = yaml.safe_load(done.stdout)
    assert cfg["model"]["d_model"] == 24
    assert cfg["model"]["n_layers"] == 4  # from the shipped lcplm_tiny
    assert cfg["trainer"]["max_steps"] == 7
    assert float(cfg["optimizer"]["lr"]) == 4e-3
    assert cfg["callbacks"]["resume"]["_target_"].startswith("lcframework.")


def test_shipped_experiments_stay_in_reach(tmp_path):
    write_configs(tmp_path)
    done = composed(tmp_path, "experiment=lcplm/quickstart", "model=narrow")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["model"]["d_model"] == 24


def test_a_wrong_name_lists_own_and_shipped_choices(tmp_path):
    write_configs(tmp_path)
    done = composed(tmp_path, "model=narow")
    assert done.returncode != 0
    assert "narrow" in done.stderr
    assert "lcplm_8m" in done.stderr


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    done = composed(tmp_path, "experiment=lcplm/quickstart")
    assert done.returncode != 0
    assert "my_conf" in done.stderr
