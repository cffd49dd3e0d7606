"""The Hydra front of `lcframework.train` and `lcframework.evaluate`. Imports no torch: help must
answer at once."""

import os
import sys
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from lcframework.errors import ConfigError, LCFrameworkError, RunInterrupted
from lcframework.files import DISK_FULL
from lcframework.paths import conf_dir, sample_dir
from lcframework.run.config import register_resolvers

MULTIRUN = ("-m", "--multirun")


class FailedJob(CompactHydraException):
    """A job of a sweep failed: Hydra runs the others, then shows this and exits with code 1."""


def register() -> None:
    """Make the resolvers known that the configs use."""
    from omegaconf import OmegaConf

    register_resolvers()
    OmegaConf.register_new_resolver("lc.sample", lambda: str(sample_dir()), replace=True)


def explain(error: BaseException, run_id: str) -> tuple[str, int] | None:
    """What a user is told of an error, and the exit code.

    Args:
        error: what ended a run.
        run_id: under which it can be resumed.

    Returns:
        One paragraph, and 2, or 128 + the signal's number after an interruption; None for an error
        that only a developer can mend.
    """
    go_on = f"To go on, repeat the command with run_id={run_id}"
    if isinstance(error, RunInterrupted):
        return f"{error} {go_on}", 128 + error.signum
    if isinstance(error, KeyboardInterrupt):
        return f"Interrupted. {go_on}", 130
    if isinstance(error, LCFrameworkError):
        return f"Error: {error}", 2
    if isinstance(error, MissingMandatoryValue):
        return f"Error: {error.full_key} must be given: add {error.full_key}=VALUE.", 2
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    if lightning is not None and isinstance(error, lightning.MisconfigurationException):
        cure = "Change the trainer's settings; `lcf doctor` says what this machine offers."
        return f"Error: {error} {cure}", 2
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = f" while writing {error.filename}" if error.filename else ""
        return f"Error: the disk is full ({error.strerror}){where}. Free some space. {go_on}", 2
    return None


def multirun_first(arguments: list[str]) -> list[str]:
    """The same command line with -m at its start: Hydra's parser takes no more overrides behind a
    flag that stands between them."""
    flags = [one for one in arguments if one in MULTIRUN]
    return [*flags, *(one for one in arguments if one not in MULTIRUN)]


def hydra_app(
    config_name: str, work: Callable[[DictConfig, bool], float | None]
) -> Callable[[], None]:
    """Make a command-line entry point.

    Args:
        config_name: the primary config, "train" or "evaluate".
        work: called with the composed config (its `paths.run_dir` set to Hydra's output directory)
            and whether this is a multirun; returns the value a sweeper minimises, or None.

    Returns:
        A function for `console_scripts` and `__main__`. Errors meant for the user end it with one
        paragraph on standard error and exit code 2, Ctrl-C with 130. In a multirun such an error
        ends only its own job; the exit code then is 1. An interruption ends the whole multirun.
        With HYDRA_FULL_ERROR=1 every error keeps its trace.
    """
    register()

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)
    def app(cfg: DictConfig) -> float | None:
        state = HydraConfig.get()
        multirun = state.mode == RunMode.MULTIRUN
        named = any(one.startswith("paths.run_dir=") for one in state.overrides.task)
        cfg.paths.run_dir = state.runtime.output_dir
        try:
            if multirun and named:
                raise ConfigError(
                    "paths.run_dir=... names one directory, a multirun needs one for each of its "
                    "jobs: set paths.runs, or hydra.sweep.dir."
                )
            return work(cfg, multirun)
        except (Exception, KeyboardInterrupt) as error:
            told = explain(error, cfg.run_id)
            if told is None or os.environ.get("HYDRA_FULL_ERROR"):
                raise
            text, code = told
            sys.stderr.write(f"\n{text}\n")
            if multirun and code == 2:
                raise FailedJob(f"Job {cfg.paths.run_dir} failed. {text}") from None
            raise SystemExit(code) from None

    def main() -> None:
        sys.argv[1:] = multirun_first(sys.argv[1:])
        app()

    return main
