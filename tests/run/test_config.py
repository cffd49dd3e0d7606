"""The run directory's config, and combinations refused beforehand."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from lcframework.errors import ConfigError, RunDirError
from lcframework.run.config import record_config
from lcframework.run.guards import refuse_subprocess_multirun, refuse_test_without_data


def config(**changes):
    base = {"model": {"d_model": 8}, "seed": 1, "trainer": {"max_steps": 5}}
    return OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(changes))


def test_same_definition_may_start_again_with_another_trainer(tmp_path):
    record_config(config(), tmp_path)
    record_config(config(trainer={"max_steps": 9}), tmp_path)
    assert OmegaConf.load(tmp_path / "config.yaml").trainer.max_steps == 9


def test_another_definition_is_refused_by_name(tmp_path):
    record_config(config(), tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "00000001.ckpt").touch()
    with pytest.raises(RunDirError, match=r"model.d_model: 8 -> 16.*run_id=NAME"):
        record_config(config(model={"d_model": 16}), tmp_path)
    assert OmegaConf.load(tmp_path / "config.yaml").model.d_model == 8


def test_a_start_that_kept_nothing_binds_nobody(tmp_path):
    record_config(config(data={"train": "misspelt.fasta"}), tmp_path)
    record_config(config(data={"train": "right.fasta"}), tmp_path)
    assert OmegaConf.load(tmp_path / "config.yaml").data.train == "right.fasta"


def test_the_evaluation_of_another_checkpoint_is_refused(tmp_path):
    record_config(config(checkpoint="runs/a"), tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(RunDirError, match="checkpoint: 'runs/a' -> 'runs/b'"):
        record_config(config(checkpoint="runs/b"), tmp_path)


@pytest.mark.parametrize(
    ("inputs", "refused"),
    [({"train": "a", "test": None}, True), ({"train": "a", "test": "b"}, False), (None, False)],
)
def test_a_run_that_would_end_without_test_data_is_refused_before_it_starts(inputs, refused):
    module = SimpleNamespace() if inputs is None else SimpleNamespace(inputs=inputs)
    with pytest.raises(ConfigError, match="test=false") if refused else nullcontext():
        refuse_test_without_data(module)


@pytest.mark.parametrize("strategy", ["ddp", "auto", "fsdp"])
def test_subprocess_launch_in_a_multirun_is_refused(strategy):
    trainer = {"accelerator": "gpu", "strategy": strategy, "devices": 4}
    with pytest.raises(ConfigError, match="ddp_spawn"):
        refuse_subprocess_multirun(trainer, multirun=True, launched_by_srun=False)


@pytest.mark.parametrize(
    ("trainer", "multirun", "srun"),
    [
        ({"strategy": "ddp", "devices": 4}, False, False),
        ({"strategy": "ddp", "devices": 4}, True, True),
        ({"strategy": "ddp_spawn", "devices": 4}, True, False),
        ({"strategy": "auto", "devices": 1}, True, False),
    ],
)
def test_safe_combinations_pass(trainer, multirun, srun):
    assert refuse_subprocess_multirun(trainer, multirun, srun) is None
