"""A training run from config to `results.json`: compose, build, resume, fit, test, record."""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from lcframework.errors import CheckpointError, ConfigError
from lcframework.run.checkpoints import (
    AtomicCheckpointIO,
    load_checkpoint,
    remove_half_written,
    resolve_resume,
)
from lcframework.run.config import record_config
from lcframework.run.csv_log import RunCSVLogger
from lcframework.run.guards import refuse_subprocess_multirun, refuse_test_without_data
from lcframework.run.identity import RunDirLock
from lcframework.run.instantiate import instantiate, instantiate_all
from lcframework.run.lightning_habits import interruptible, quiet_lightning
from lcframework.run.networks import find_checkpoint, load_network
from lcframework.run.report import baselines_of
from lcframework.run.results import FILE_NAME, git_revision, versions, write_json

log = logging.getLogger(__name__)


def build_trainer(
    cfg: DictConfig, folder: Path, loggers: list[Any], callbacks: list[Any]
) -> pl.Trainer:
    """The trainer with our checkpoint writer; its root directory is the run directory."""
    return instantiate(
        cfg.trainer,
        default_root_dir=str(folder),
        logger=loggers or False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
    )


def report_of(callbacks: list[Any]) -> dict[str, dict[str, Any]]:
    """Merge what the scoring callbacks found: `metrics` and `tables` of `results.json`."""
    merged: dict[str, dict[str, Any]] = {"metrics": {}, "tables": {}}
    for callback in callbacks:
        found = getattr(callback, "results", None) or {}
        for part, values in merged.items():
            values.update(found.get(part, {}))
    return merged


def keep_record(trainer: pl.Trainer, folder: Path, record: dict[str, Any]) -> None:
    """Write `results.json`, then the pictures and the tables beside them, on the first rank."""
    if not trainer.is_global_zero:
        return
    from lcframework.run.figures import run_figures  # matplotlib: not needed by other ranks

    write_json(folder / FILE_NAME, record)
    pictures = run_figures(folder, record, baselines_of([record]))
    drawn = ", ".join(["results.json", *(f"figures/{path.name}" for path in pictures)])
    log.info("Written to %s: %s", folder, drawn)


def run_record(
    cfg: DictConfig, folder: Path, trainer: pl.Trainer, started: float
) -> dict[str, Any]:
    """The `run` part of `results.json`."""
    tokens = getattr(trainer.lightning_module, "tokens_seen", None)
    device = trainer.strategy.root_device
    return {
        "id": folder.name,
        "experiment": cfg.name,
        "seed": cfg.seed,
        "git": git_revision(),
        "versions": versions(),
        "device": str(device),
        "wall_s": time.time() - started,
        "tokens": None if tokens is None else int(tokens),
        "steps": trainer.global_step,
    }


def data_record(datamodule: Any) -> dict[str, Any]:
    """The `data` part of `results.json`: path, fingerprint and size of every split in use."""
    given = {
        split for split, value in getattr(datamodule, "inputs", {}).items() if value is not None
    }
    return {
        split: datamodule.fingerprint(split)
        for split in ("train", "valid", "test")
        if split in given
    }


def _refuse_small_vocabulary(datamodule: Any, network: Any) -> None:
    """Refuse a network whose embedding has no row for some of the data's tokens.

    Raises:
        ConfigError: it has not; on a GPU the step would end in an assertion of the device.
    """
    needed, hparams = getattr(datamodule, "token_ids", 0), getattr(network, "hparams", {})
    rows = hparams.get("pad_vocab_to", hparams.get("vocab_size", needed))
    if rows < needed:
        raise ConfigError(
            f"The data use {needed} token ids and the network's embedding has {rows} rows: it has "
            "no room for tokens that mark nodes and edges. Train the first stage with "
            f"model.vocab_size={needed} (ESM2) or a larger model.pad_vocab_to (LC-PLM)."
        )


def _refuse_another_network(said: dict[str, Any] | None, network: Any, checkpoint: Path) -> None:
    """Compare what a checkpoint says of its network with the one that was built.

    Raises:
        CheckpointError: they differ; the message lists how.
    """
    if said is None:
        return  # written by another task, which checks for itself
    have = {"architecture": network.architecture, **network.hparams}
    want = {"architecture": said["architecture"], **said["hparams"]}
    ignored = {"scan_backend", "gradient_checkpointing"}  # how to compute, not what
    differing = [
        f"{key}: {want.get(key)!r} there, {have.get(key)!r} here"
        for key in sorted((want.keys() | have.keys()) - ignored)
        if want.get(key) != have.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"{checkpoint} holds another network than this run's ({'; '.join(differing)}). "
            "Choose the model it was trained with, or another ckpt_path."
        )


def _rewind_logs(trainer: pl.Trainer, saved: dict[str, Any]) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, RunCSVLogger):
            logger.rewind(saved["global_step"], saved.get("last_logged"))


def _save_last(trainer: pl.Trainer, folder: Path) -> None:
    """Keep the end of the training too, wherever it fell between two checkpoints."""
    path = folder / f"{trainer.global_step:08d}.ckpt"
    if not trainer.fast_dev_run and trainer.state.finished and not path.exists():  # type: ignore[attr-defined]
        trainer.save_checkpoint(path)


def train(cfg: DictConfig, multirun: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit, test and record one run.

    Args:
        cfg: a composed `train.yaml`; `cfg.paths.run_dir` is the run directory.
        multirun: whether this is one job of a Hydra sweep.

    Returns:
        (content of `results.json`, the objects built: trainer, task, datamodule, callbacks).

    Raises:
        LCFrameworkError: bad input, a run directory in use or of another run, a damaged checkpoint,
            a loss that is not finite.
    """
    quiet_lightning()
    folder = Path(cfg.paths.run_dir)
    refuse_subprocess_multirun(dict(cfg.trainer), multirun, "SLURM_STEP_ID" in os.environ)
    if rank_zero_only.rank != 0:
        return _train_and_close(cfg, folder)
    with RunDirLock(folder):
        record_config(cfg, folder)
        remove_half_written(folder / "checkpoints")
        return _train_and_close(cfg, folder)


def _train_and_close(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train, then end the W&B run, or the next job of a sweep in this process would log into it."""
    failed = True
    try:
        done = _train_locked(cfg, folder)
        failed = False
        return done
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=int(failed))


def _network(cfg: DictConfig) -> Any:
    """The network of `checkpoint`, where an experiment starts from one, else a new one."""
    if cfg.get("checkpoint") is None:
        return instantiate(cfg.model)
    path = find_checkpoint(cfg.checkpoint)
    log.info("Starting from %s", path)
    return load_network(path)


def _train_locked(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    started = time.time()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = instantiate(cfg.data)
    if cfg.test:
        refuse_test_without_data(datamodule)
    task = instantiate(cfg.task, model=_network(cfg), optimizer=instantiate(cfg.optimizer))
    _refuse_small_vocabulary(datamodule, getattr(task, "model", None))
    callbacks = instantiate_all(cfg.callbacks)
    trainer = build_trainer(cfg, folder, instantiate_all(cfg.logger), callbacks)
    resume = resolve_resume(cfg.ckpt_path, folder / "checkpoints")
    log.info("Run directory %s: %s", folder, f"resuming from {resume}" if resume else "fresh start")
    saved: dict[str, Any] = {"global_step": 0} if resume is None else load_checkpoint(resume)
    if resume is not None and hasattr(task, "model"):
        _refuse_another_network(saved.get("lcframework_model"), task.model, resume)
    weights = None if resume is None else str(resume)
    with interruptible():
        if cfg.fit:
            _rewind_logs(trainer, saved)
            trainer.fit(task, datamodule=datamodule, ckpt_path=weights)
            _save_last(trainer, folder / "checkpoints")
            weights = None  # those in memory
        elif resume is None:
            log.warning("fit=false and no checkpoint: an untrained network is tested.")
        if cfg.test:
            trainer.test(task, datamodule=datamodule, ckpt_path=weights, verbose=False)
    record = {
        "run": {
            **run_record(cfg, folder, trainer, started),
            "resumed_at_step": saved["global_step"],  # wall_s counts from there
        },
        "data": data_record(datamodule),
        **report_of(callbacks),
    }
    for logger in trainer.loggers:
        logger.save()
    keep_record(trainer, folder, record)
    objects = {"trainer": trainer, "task": task, "datamodule": datamodule, "callbacks": callbacks}
    return record, objects
