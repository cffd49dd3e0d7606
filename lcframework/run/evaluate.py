"""Evaluate a trained network, or a language model, on other data: to `results.json`, in a run
directory of its own."""

import logging
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from lcframework.errors import ConfigError
from lcframework.run.config import record_config
from lcframework.run.fit import (
    build_trainer,
    data_record,
    keep_record,
    report_of,
    run_record,
)
from lcframework.run.identity import RunDirLock
from lcframework.run.instantiate import instantiate, instantiate_all
from lcframework.run.lightning_habits import interruptible, quiet_lightning
from lcframework.run.networks import find_checkpoint, load_network

log = logging.getLogger(__name__)


def _task(cfg: DictConfig, path: Path | None) -> Any:
    """The task around a checkpoint's network or, without a checkpoint, around the language model
    that `model` loads."""
    if path is not None:
        log.info("Evaluating %s", path)
        return instantiate(cfg.task, model=load_network(path))
    if cfg.get("model") is None:
        raise ConfigError("There is nothing to evaluate: give checkpoint=RUN, or a model.")
    log.info("Evaluating %s", cfg.model.get("path", "the model"))
    return instantiate(cfg.task, llm=instantiate(cfg.model))


def evaluate(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Test a checkpoint.

    Args:
        cfg: a composed `evaluate.yaml`.

    Returns:
        (content of `results.json`, the objects built).

    Raises:
        LCFrameworkError: bad data, a checkpoint that is missing, damaged or of something else.
    """
    quiet_lightning()
    folder = Path(cfg.paths.run_dir)
    if rank_zero_only.rank != 0:
        return _evaluate(cfg, folder)
    with RunDirLock(folder):
        record_config(cfg, folder)
        return _evaluate(cfg, folder)


def _evaluate(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    started = time.time()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    path = None if cfg.checkpoint is None else find_checkpoint(cfg.checkpoint)
    task = _task(cfg, path)
    datamodule = instantiate(cfg.data)
    callbacks = instantiate_all(cfg.callbacks)
    for callback in callbacks:
        if path is not None and hasattr(callback, "baselines_from"):
            callback.baselines_from(path)
    trainer = build_trainer(cfg, folder, [], callbacks)
    with interruptible():
        trainer.test(task, datamodule=datamodule, verbose=False)
    run = run_record(cfg, folder, trainer, started) | {
        "checkpoint": None if path is None else str(path),
        "steps": None,
        "tokens": None,
    }
    record = {"run": run, "data": data_record(datamodule), **report_of(callbacks)}
    keep_record(trainer, folder, record)
    return record, {
        "trainer": trainer,
        "task": task,
        "datamodule": datamodule,
        "callbacks": callbacks,
    }
