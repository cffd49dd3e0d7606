"""AdamW with the parameter groups and the schedule that masked language models are trained with."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcframework.errors import ConfigError


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into decayed and not decayed ones.

    Not decayed: everything of fewer than two dimensions (biases, norm gains, the skip D) and what a
    module marks with `_no_weight_decay` (A_log, whose decay would change the state-space model's
    time constants).

    Returns:
        Two optimizer groups, each in the module's own parameter order, so that saved optimizer
        states match again.
    """
    decayed, free = [], []
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        spared = parameter.ndim < 2 or getattr(parameter, "_no_weight_decay", False)
        (free if spared else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, final_ratio: float) -> float:
    """Factor on the peak learning rate: linear from 1/warmup to 1, then half a cosine down to
    `final_ratio`."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class WarmupCosineAdamW:
    """Recipe for AdamW with linear warm-up and cosine decay.

    Attributes:
        lr: peak learning rate.
        betas: AdamW's running-average coefficients.
        weight_decay: decoupled decay of matrices; see `decay_groups` for what is spared.
        warmup_fraction: share of all optimizer steps spent warming up; used when `warmup_steps` is
            None.
        warmup_steps: number of warm-up steps.
        final_ratio: learning rate at the end over the peak.
        total_steps: length of the schedule; None takes the trainer's estimate.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    warmup_fraction: float = 0.05
    warmup_steps: int | None = None
    final_ratio: float = 0.1
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.lr, int | float) and self.lr > 0):
            raise ValueError(f"lr must be a positive number, got {self.lr!r}")
        if not (0 <= self.warmup_fraction <= 1 and 0 <= self.final_ratio <= 1):
            raise ValueError(
                "warmup_fraction and final_ratio must lie in [0, 1], got "
                f"{self.warmup_fraction} and {self.final_ratio}"
            )

    def build(self, module: nn.Module, estimated_steps: int | float) -> dict[str, Any]:
        """Make what `LightningModule.configure_optimizers` returns.

        Args:
            module: whose parameters are trained.
            estimated_steps: the trainer's count of optimizer steps, may be infinite.

        Raises:
            ConfigError: the length of the schedule is known to nobody.
        """
        total = self.total_steps if self.total_steps is not None else estimated_steps
        if not math.isfinite(total) or total < 1:
            raise ConfigError(
                "The learning-rate schedule needs a length: set trainer.max_steps or "
                "trainer.max_epochs, "
                "or optimizer.total_steps."
            )
        total = int(total)
        warmup = (
            self.warmup_steps
            if self.warmup_steps is not None
            else math.ceil(self.warmup_fraction * total)
        )
        optimizer = torch.optim.AdamW(
            decay_groups(module, self.weight_decay),
            lr=self.lr,
            betas=(self.betas[0], self.betas[1]),
            fused=False,  # Lightning clips no gradients under mixed precision for a fused optimizer
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, warmup, total, self.final_ratio)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
