"""Random state in the checkpoint: Lightning saves none, so a resumed run would draw other
numbers."""

import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn


def capture_random_state() -> dict[str, Any]:
    """States of Python's, numpy's, torch's and every CUDA device's generator, as tensors and plain
    values."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(words), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `capture_random_state` returned; CUDA states only as far as there are
    devices."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one.cpu(), device)


class ExactResume(pl.Callback):
    """Saves the generators of every rank with each checkpoint; restores them just before the first
    resumed batch.

    The data position is the DataModule's business, weights, optimizer and counters are Lightning's.
    Restored as late as possible, because building loaders and the sanity check may draw numbers in
    between.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Gather the states of all ranks into the checkpoint."""
        states: list[Any] = [capture_random_state()]
        if trainer.world_size > 1:
            own = states[0]
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, own)
        checkpoint["random_state"] = states
        # Lightning logs a step after its checkpoint is written: a run killed in between would
        # resume behind a row that nobody wrote.
        if trainer.training and trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            logged = {k: float(v) for k, v in trainer.callback_metrics.items() if k[:6] == "train/"}
            checkpoint["last_logged"] = {**logged, "epoch": trainer.current_epoch}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember this rank's state; with another number of ranks an exact resume is impossible
        and is said so."""
        states = checkpoint.get("random_state", [])
        if len(states) == trainer.world_size:
            self._pending = states[trainer.global_rank]
        elif states:
            rank_zero_warn(
                f"The checkpoint was written by {len(states)} processes and "
                f"{trainer.world_size} resume it: training "
                "goes on, but not with the same random numbers and data order."
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore once, before the first batch after a resume."""
        if self._pending is not None:
            restore_random_state(self._pending)
            self._pending = None
