"""Progress with tokens per second and the time left: a rich bar on a terminal, a line now and then
in a log file."""

import logging
import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar

log = logging.getLogger(__name__)


class TokenProgressBar(RichProgressBar):
    """Lightning's rich bar (elapsed and remaining time) with tokens/s beside the metrics."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The shown metrics, without the version column and with the speed."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        speed = trainer.callback_metrics.get("train/tokens_per_s")
        return shown if speed is None else {**shown, "tokens/s": f"{float(speed):,.0f}"}

    def _get_train_description(self, current_epoch: int) -> str:
        # Runs are measured in steps; without max_epochs Lightning would show "Epoch 0/-2".
        return f"Training, epoch {current_epoch}"


class LineProgress(Callback):
    """Logs step, loss, speed and time left every `every_s` seconds; for logs that are files.

    Args:
        every_s: seconds between two lines.
    """

    def __init__(self, every_s: float = 15.0) -> None:
        self.every_s = every_s
        self._start = self._last = 0.0
        self._first_step = 0
        self._first_tokens = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; steps done before a resume do not count for the speed."""
        self._start = self._last = time.monotonic()
        self._first_step = trainer.global_step
        self._first_tokens = float(getattr(pl_module, "tokens_seen", 0.0))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a line if it is time for one."""
        now = time.monotonic()
        done = trainer.global_step - self._first_step
        if now - self._last < self.every_s or done < 1 or not trainer.is_global_zero:
            return
        self._last = now
        total = trainer.estimated_stepping_batches
        left = (now - self._start) / done * (total - trainer.global_step)
        metrics = trainer.callback_metrics
        loss, tokens = metrics.get("train/loss"), getattr(pl_module, "tokens_seen", None)
        parts = [f"step {trainer.global_step:,}/{total:,}"]
        parts += [f"loss {float(loss):.4f}"] if loss is not None else []
        if tokens is not None:
            speed = (float(tokens) - self._first_tokens) / (now - self._start)
            parts.append(f"{speed:,.0f} tokens/s")
        log.info("%s, %d:%02d left", ", ".join(parts), left // 60, left % 60)


def progress(every_s: float = 15.0) -> Callback:
    """The bar on a terminal, lines elsewhere."""
    return (
        TokenProgressBar() if sys.stderr.isatty() and sys.stdout.isatty() else LineProgress(every_s)
    )
