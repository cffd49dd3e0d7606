"""The run directory's config, and combinations refused beforehand."""

import pytest
from omegaconf import OmegaConf

from lcframework.errors import ConfigError, RunDirError
from lcframework.run.config import record_config
from lcframework.run.guards import refuse_subprocess_multirun


def config(**changes):
    base = {"model": {"d_model": 8}, "seed": 1, "trainer": {"max_steps": 5}}
    return OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(changes))


def test_same_definition_may_start_again_with_another_trainer(tmp_path):
    record_config(config(), tmp_path)
    record_config(config(trainer={"max_steps": 9}), tmp_path)
    assert OmegaConf.load(tmp_path / "config.yaml").trainer.max_steps == 9


def test_another_definition_is_refused_by_name(tmp_path):
    record_config(config(), tmp_path)
    with pytest.raises(RunDirError, match=r"model.d_model: 8 -> 16.*run_id=NAME"):
        record_config(config(model={"d_model": 16}), tmp_path)
    assert OmegaConf.load(tmp_path / "config.yaml").model.d_model == 8


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
