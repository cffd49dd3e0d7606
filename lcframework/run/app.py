"""The Hydra front of `lcframework.train` and `lcframework.evaluate`. Imports no torch: help must
answer at once."""

import sys
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lcframework.errors import LCFrameworkError
from lcframework.paths import conf_dir, sample_dir
from lcframework.run.config import register_resolvers


def register() -> None:
    """Make the resolvers known that the configs use."""
    from omegaconf import OmegaConf

    register_resolvers()
    OmegaConf.register_new_resolver("lc.sample", lambda: str(sample_dir()), replace=True)


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
        paragraph on standard error and exit code 2, Ctrl-C with 130.
    """
    register()

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)
    def app(cfg: DictConfig) -> float | None:
        state = HydraConfig.get()
        cfg.paths.run_dir = state.runtime.output_dir
        try:
            return work(cfg, state.mode == RunMode.MULTIRUN)
        except LCFrameworkError as error:
            sys.stderr.write(f"\nError: {error}\n")
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            sys.stderr.write(
                f"\nInterrupted. To go on, repeat the command with run_id={cfg.run_id}\n"
            )
            raise SystemExit(130) from None

    return app
