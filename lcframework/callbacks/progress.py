"""Progress with tokens per second and the time left: a rich bar on a terminal, a line now and then
in a log file."""

import logging
import math
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

    Speed and time left are those of the time since the last line, so a slow start (compilation, a
    cold disk) does not spoil the estimate for long.

    Args:
        every_s: seconds between two lines.
    """

    def __init__(self, every_s: float = 15.0) -> None:
        self.every_s = every_s
        self._last = 0.0
        self._last_step = 0
        self._last_tokens = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; steps done before a resume do not count for the speed."""
        self._last = time.monotonic()
        self._last_step = trainer.global_step
        self._last_tokens = float(getattr(pl_module, "tokens_seen", 0.0))

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
        seconds, done = now - self._last, trainer.global_step - self._last_step
        if seconds < self.every_s or done < 1 or not trainer.is_global_zero:
            return
        total = trainer.estimated_stepping_batches
        ends = math.isfinite(total)  # with max_time alone nobody knows the number of steps
        metrics = trainer.callback_metrics
        loss, tokens = metrics.get("train/loss"), getattr(pl_module, "tokens_seen", None)
        parts = [f"step {trainer.global_step:,}" + (f"/{total:,}" if ends else "")]
        parts += [f"loss {float(loss):.4f}"] if loss is not None else []
        if tokens is not None:
            parts.append(f"{(float(tokens) - self._last_tokens) / seconds:,.0f} tokens/s")
            self._last_tokens = float(tokens)
        if ends:
            left = seconds / done * (total - trainer.global_step)
            parts.append(f"{int(left // 60)}:{int(left % 60):02d} left")
        self._last, self._last_step = now, trainer.global_step
        log.info(", ".join(parts))


def progress(every_s: float = 15.0) -> Callback:
    """The bar on a terminal, lines elsewhere."""
    return (
        TokenProgressBar() if sys.stderr.isatty() and sys.stdout.isatty() else LineProgress(every_s)
    )
