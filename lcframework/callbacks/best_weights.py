"""Early stopping on the valid split that ends with the best weights, not the last."""

import logging
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lcframework.errors import ConfigError

log = logging.getLogger(__name__)


class BestWeights(Callback):
    """Keeps the trained weights of the best validation, stops when none has been better for long,
    and puts them back at the end.

    Args:
        monitor: a logged value, higher is better.
        patience: validations in a row without a better one; None never stops.

    Attributes:
        best: the best value so far, None before the first validation.
        best_step: optimizer steps taken then.
    """

    def __init__(self, monitor: str = "val/score", patience: int | None = 5) -> None:
        if patience is not None and patience < 1:
            raise ConfigError(f"patience={patience}: it must be at least 1, or null.")
        self.monitor = monitor
        self.patience = patience
        self.best: float | None = None
        self.best_step = 0
        self._waited = 0
        self._weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, keep, or stop."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(f"Nothing logs {self.monitor}; there are {known}.")
        value = float(trainer.callback_metrics[self.monitor])
        # An undefined score is worse than any other but better than nothing.
        if self.best is None or value > self.best or (self.best != self.best and value == value):
            self.best, self.best_step, self._waited = value, trainer.global_step, 0
            self._weights = _trained(pl_module)
            return
        self._waited += 1
        if self.patience is not None and self._waited >= self.patience:
            trainer.should_stop = True
            log.info("%s has not risen for %d validations: stopped.", self.monitor, self._waited)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the best weights back."""
        if self._weights:
            pl_module.load_state_dict(self._weights, strict=False)
            log.info("Best %s %.4f, of step %d.", self.monitor, self.best, self.best_step)

    def state_dict(self) -> dict[str, Any]:
        """For an exact resume."""
        names = ("best", "best_step", "_waited", "_weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the run being resumed."""
        for name, value in state_dict.items():
            setattr(self, name, value)


def _trained(module: pl.LightningModule) -> dict[str, Tensor]:
    """Copies of what training changes: parameters that want a gradient, and all buffers."""
    still = {name for name, one in module.named_parameters() if not one.requires_grad}
    return {
        name: value.detach().to("cpu", copy=True)
        for name, value in module.state_dict().items()
        if name not in still and torch.is_tensor(value)
    }
