"""Combinations that would waste hours, refused before anything starts."""

from typing import Any

from lcframework.errors import ConfigError

SUBPROCESS_STRATEGIES = ("ddp", "ddp_find_unused_parameters", "deepspeed", "fsdp")


def refuse_subprocess_multirun(
    trainer: dict[str, Any], multirun: bool, launched_by_srun: bool
) -> None:
    """Refuse a strategy that relaunches the command line inside a Hydra multirun.

    Lightning's `ddp` starts its other ranks by running the same command again, `-m` and all: each
    rank would then run the whole sweep in a directory of its own.

    Args:
        trainer: the trainer's config.
        multirun: whether Hydra runs a sweep.
        launched_by_srun: whether SLURM has started one process per rank, in which case nothing is
            relaunched.

    Raises:
        ConfigError: with the ways out.
    """
    strategy, devices = str(trainer.get("strategy", "auto")), trainer.get("devices", 1)
    several = (devices not in (1, "1", [0])) or int(trainer.get("num_nodes", 1)) > 1
    relaunches = several and "spawn" not in strategy and "fork" not in strategy
    if trainer.get("accelerator") == "cpu" and strategy == "auto":
        relaunches = relaunches and devices not in ("auto", -1)
    if multirun and relaunches and not launched_by_srun:
        raise ConfigError(
            f"trainer.strategy={strategy} with trainer.devices={devices} starts its other "
            f"processes by repeating the "
            "command line, so each would run the whole sweep. Use "
            "trainer.strategy=ddp_spawn, or one job per setting "
            "under srun (one task per device), or trainer.devices=1."
        )


def refuse_test_without_data(datamodule: Any) -> None:
    """Refuse to train for hours when the test at the end has nothing to test on.

    Args:
        datamodule: one that declares its `inputs` by split, or any other.

    Raises:
        ConfigError: it declares them, and none for "test".
    """
    inputs = getattr(datamodule, "inputs", None)
    if inputs is not None and inputs.get("test") is None:
        raise ConfigError(
            "The run ends with a test, but data.test names no file: set data.test (or data.valid, "
            "which it follows), or test=false."
        )
