"""Ctrl-C and SIGTERM: the step under way is finished and saved before the training stops.

Lightning stops wherever the signal happens to fall, and what was trained since the last checkpoint
is lost.
"""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from lcframework.errors import RunInterrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTICE = (
    b"\nStopping: this step is finished and saved first. The same signal again stops at once.\n"
)


class SaveOnInterrupt(pl.Callback):
    """Saves a checkpoint after the optimizer step in which a signal arrived, then stops.

    A second signal acts as if this callback were not there. Outside the training loop, and where
    Python runs training outside its main thread, signals act as ever; one that the process was
    started to ignore (`nohup`, a job in the background of a script) stays ignored.

    Args:
        dirpath: the folder of the run's checkpoints.

    Raises:
        RunInterrupted: from the trainer's `fit`, once the state is saved.
    """

    def __init__(self, dirpath: str | Path) -> None:
        self.dirpath = Path(dirpath)
        self._signum: int | None = None
        self._speaks = True
        self._earlier: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over."""
        self._signum, self._speaks = None, trainer.is_global_zero
        if threading.current_thread() is threading.main_thread():
            heeded = [one for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
            self._earlier = {one: signal.signal(one, self._note) for one in heeded}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._signum = signum
        self._give_back()
        if self._speaks:
            os.write(2, _NOTICE)  # not print: the signal may have fallen into the middle of one

    def _give_back(self) -> None:
        for one, handler in self._earlier.items():
            signal.signal(
                one, handler or signal.SIG_DFL
            )  # None: set by something other than Python
        self._earlier = {}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop, if any rank got a signal; never between the batches of one step."""
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        if not trainer.strategy.reduce_boolean_decision(self._signum is not None, all=False):
            return
        path = self.dirpath / f"{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)
        raise RunInterrupted(
            f"Stopped by a signal after step {trainer.global_step}; the state is saved in {path}.",
            self._signum or signal.SIGTERM,
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._give_back()
