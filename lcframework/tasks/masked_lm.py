"""Masked language modelling on packed proteins (BERT objective; LC-PLM, arXiv 2411.08909, section
3).

The logits are computed only where a label is: at 15% masking the output head would otherwise do
seven times the work.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from lcframework.data.batch import PackedProteins
from lcframework.errors import NonFiniteLossError
from lcframework.tasks.optimizers import WarmupCosineAdamW

IGNORED = -100


class MaskedLMTask(pl.LightningModule):
    """Trains and evaluates any packed masked language model; needs only `lightning.Trainer`.

    Args:
        model: a network with `forward(tokens (T,), cu_seqlens (S+1,), max_len, at (M,)) -> logits
            (M, V)`, `vocab_size`, `hparams`, `architecture` and `forward_flops(lengths)`.
        optimizer: recipe for optimizer and schedule.

    The loss is the mean cross-entropy in nats over a batch's scored residues. Logged in training:
    `train/loss`, `train/perplexity`, `train/accuracy`, `train/grad_norm` (before clipping),
    `train/lr`, `train/tokens` (all seen so far, specials included), `train/tokens_per_s` and
    `train/model_flops_per_s` (3 x forward FLOPs over the time between steps). In validation
    `val/loss`, `val/perplexity`, `val/accuracy`, over all scored residues.
    """

    def __init__(self, model: nn.Module, optimizer: WarmupCosineAdamW | None = None) -> None:
        super().__init__()
        self.model = model
        self._flops: Callable[[Sequence[int]], int] = model.forward_flops  # type: ignore[assignment]
        self.optimizer_recipe = optimizer or WarmupCosineAdamW()
        # float64: counts beyond 2^24 tokens would be rounded in float32.
        self.tokens_seen: Tensor
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.float64))
        self.val_loss = MeanMetric()
        self.val_accuracy = MeanMetric()
        self._last_step_time: float | None = None

    def forward(self, batch: PackedProteins, at: Tensor | None = None) -> Tensor:
        """Logits over the real tokens: (M, vocab_size) at positions `at`, else (T, vocab_size)."""
        logits = self.model(batch.tokens, batch.cu_seqlens, batch.max_len, at=at)
        return logits[:, : self.model.vocab_size]

    def score(self, batch: PackedProteins) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and targets of the scored residues.

        Returns:
            (logits (M, V) float32, targets (M,) int64, positions (M,) int64 in the pack).
        """
        at = (batch.labels != IGNORED).nonzero().squeeze(1)
        return self(batch, at).float(), batch.labels[at], at

    def training_step(self, batch: PackedProteins, batch_idx: int) -> Tensor:
        """One step; stops with a clear error, after saving the state, if the loss is not finite."""
        logits, targets, _ = self.score(batch)
        loss = F.cross_entropy(logits, targets)
        self._stop_if_not_finite(loss, batch)
        with torch.no_grad():
            self.tokens_seen.add_(batch.num_tokens * self.trainer.world_size)
            accuracy = logits.argmax(-1).eq(targets).float().mean()
        size = targets.numel()
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size)
        values = {"train/perplexity": loss.detach().exp(), "train/accuracy": accuracy}
        values["train/tokens"] = self.tokens_seen.float()
        self.log_dict(values | self._speed(batch), batch_size=size)
        return loss

    def _speed(self, batch: PackedProteins) -> dict[str, float]:
        now = time.perf_counter()
        last, self._last_step_time = self._last_step_time, now
        if last is None:
            return {}
        per_second = self.trainer.world_size / (now - last)
        lengths = batch.cu_seqlens.diff().tolist()
        flops = 3 * self._flops(lengths)  # backward costs two forwards
        return {
            "train/tokens_per_s": batch.num_tokens * per_second,
            "train/model_flops_per_s": flops * per_second,
        }

    def _stop_if_not_finite(self, loss: Tensor, batch: PackedProteins) -> None:
        bad = not bool(torch.isfinite(loss))
        # All ranks must agree, or the others would wait for ever in the next reduction.
        if not self.trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        step = self.trainer.global_step
        path = Path(self.trainer.default_root_dir) / "checkpoints" / f"nonfinite_step={step}.ckpt"
        self.trainer.save_checkpoint(path)
        ids = batch.sequence_ids.tolist()
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        names = (
            datamodule.sequence_names("train", ids)
            if hasattr(datamodule, "sequence_names")
            else ids
        )
        raise NonFiniteLossError(
            f"The loss became {loss.item()} at step {step} on the proteins "
            f"{', '.join(map(str, names))}. The state "
            f"before this step is saved in {path}. Cures: a lower optimizer.lr, more "
            f"warm-up, a smaller "
            "trainer.gradient_clip_val, or trainer.precision=32-true to rule out overflow."
        )

    def on_train_epoch_start(self) -> None:
        """Forget the last step's time: what lies between epochs is not training speed."""
        self.forget_step_time()

    def forget_step_time(self) -> None:
        """Leave the time since the last step out of the speed; for what runs between steps."""
        self._last_step_time = None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient's norm over all parameters, and the learning rate."""
        grads = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.log("train/grad_norm", nn.utils.get_total_norm(grads))
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: PackedProteins, batch_idx: int) -> None:
        """Accumulate loss and accuracy over scored residues."""
        logits, targets, _ = self.score(batch)
        self.val_loss.update(F.cross_entropy(logits, targets, reduction="none"))
        self.val_accuracy.update((logits.argmax(-1) == targets).float())

    def on_validation_epoch_end(self) -> None:
        """Log the corpus values, computed once over everything."""
        loss, accuracy = self.val_loss.compute(), self.val_accuracy.compute()
        self.log_dict(
            {"val/loss": loss, "val/perplexity": loss.exp(), "val/accuracy": accuracy},
            prog_bar=True,
        )
        self.val_loss.reset()
        self.val_accuracy.reset()

    def test_step(self, batch: PackedProteins, batch_idx: int) -> dict[str, Any]:
        """Logits, targets and positions of the scored residues, for the scoring callback."""
        logits, targets, at = self.score(batch)
        return {"logits": logits, "targets": targets, "at": at}

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule from the recipe."""
        return self.optimizer_recipe.build(self, self.trainer.estimated_stepping_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds the network, so that a checkpoint file stands alone."""
        checkpoint["lcframework_model"] = {
            "architecture": self.model.architecture,
            "hparams": self.model.hparams,
        }
