"""A downstream task of TAPE: its head on a masked language model, fine-tuned or on frozen states.

Losses as in TAPE: cross-entropy over scored residues, over proteins or over scored pairs; mean
squared error for values.
"""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lcframework.data.batch import IGNORE_LABEL
from lcframework.data.tape.batch import TapeBatch
from lcframework.data.tape.tasks import CLASS, CONTACT, RESIDUE, VALUE, task_spec
from lcframework.errors import ConfigError, DataError, NonFiniteLossError
from lcframework.models.hidden_states import hidden_states
from lcframework.models.tape_heads import PairwiseContacts, SimpleConv, SimpleMLP
from lcframework.scoring.contacts import precision_counts
from lcframework.scoring.tape.metrics import PerProtein, ratio_score, spearman_score
from lcframework.tasks.optimizers import WarmupCosineAdamW

UNKNOWN_PAIR = -1


class TapeTask(pl.LightningModule):
    """Trains and tests one downstream task.

    Args:
        model: `LCPLM` or `ESM2`.
        task: a name in `lcframework.data.tape.tasks.TASKS`.
        optimizer: recipe for optimizer and schedule.
        frozen: train the head alone, on the network's states in evaluation mode.
        classes: outputs of the head; None: the task's own, or as many as the data module counts.
        dropout: in the head; None: TAPE's, 0.5 on the features of pairs and 0 elsewhere.

    Logged: `train/loss`, `train/tokens`, `train/lr`; `val/loss` and `val/score`, the task's metric
    over the whole split, higher is better.
    """

    def __init__(
        self,
        model: nn.Module,
        task: str,
        optimizer: WarmupCosineAdamW | None = None,
        frozen: bool = False,
        classes: int | None = None,
        dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.spec = task_spec(task)
        self.optimizer_recipe = optimizer or WarmupCosineAdamW(lr=1e-4)
        self.frozen = frozen
        self.dropout = dropout
        self.head: nn.Module | None = None
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.float64))
        self.val_scores, self.val_losses = PerProtein(), PerProtein()
        for name, parameter in model.named_parameters():
            # The language model's own head takes no part; a tied embedding has another name.
            if frozen or "lm_head" in name:
                parameter.requires_grad = False
        if classes is None and self.spec.kind != CLASS:
            classes = self.spec.classes or 1
        if classes is not None:
            self._build_head(classes)

    def _build_head(self, outputs: int) -> None:
        hparams: Any = self.model.hparams
        width, extra = hparams["d_model"], {} if self.dropout is None else {"dropout": self.dropout}
        if self.spec.kind == CONTACT:
            self.head = PairwiseContacts(width, **extra)
        else:
            kind = SimpleConv if self.spec.kind == RESIDUE else SimpleMLP
            self.head = kind(width, outputs, **extra)

    def setup(self, stage: str) -> None:
        """Build the head where the number of classes is the data's.

        Raises:
            ConfigError: nobody knows that number.
        """
        if self.head is not None:
            return
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        if self.spec.classes:
            self._build_head(self.spec.classes)
        elif hasattr(datamodule, "classes"):
            self._build_head(datamodule.classes)
        else:
            raise ConfigError(f"{self.spec.name}: give TapeTask(classes=N), the number of classes.")

    def train(self, mode: bool = True) -> "TapeTask":
        """A frozen network stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, batch: TapeBatch) -> Tensor:
        """Outputs of the head in float32: (T, C) per token, (S, C) per protein, or (pairs, 2)."""
        pack = batch.pack
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = hidden_states(self.model, pack.tokens, pack.cu_seqlens, pack.max_len)
        assert self.head is not None
        with torch.autocast(pack.tokens.device.type, enabled=False):
            return self.head(states.float(), pack.cu_seqlens)

    def _targets(self, batch: TapeBatch) -> Tensor:
        return batch.pack.labels if self.spec.kind == RESIDUE else batch.targets

    def loss_of(self, outputs: Tensor, batch: TapeBatch) -> Tensor:
        """TAPE's loss of a batch, a scalar; 0 where nothing is scored."""
        targets = self._targets(batch)
        if self.spec.kind == VALUE:
            return F.mse_loss(outputs[:, 0], targets)
        if outputs.shape[-1] <= int(targets.max()):
            raise DataError(
                f"{self.spec.name}: a label is {int(targets.max())}, the head has "
                f"{outputs.shape[-1]} classes. Train with all classes in the training data."
            )
        ignored = UNKNOWN_PAIR if self.spec.kind == CONTACT else IGNORE_LABEL
        sums = F.cross_entropy(outputs, targets.long(), ignore_index=ignored, reduction="sum")
        return sums / (targets != ignored).sum().clamp(min=1)

    def counts_of(self, outputs: Tensor, batch: TapeBatch) -> tuple[Tensor, Tensor]:
        """The two numbers of each protein that the score is made of, see `scoring.tape.metrics`."""
        if self.spec.kind == VALUE:
            return outputs[:, 0], batch.targets
        if self.spec.kind == CLASS:
            right = outputs.argmax(-1) == batch.targets
            return right, torch.ones_like(right)
        borders = batch.pack.cu_seqlens
        if self.spec.kind == RESIDUE:
            labels = batch.pack.labels
            scored = labels != IGNORE_LABEL
            right = (outputs.argmax(-1) == labels) & scored
            owner = torch.repeat_interleave(borders.long().diff(), output_size=len(labels))
            empty = torch.zeros(len(borders) - 1, device=labels.device)
            return tuple(empty.index_add(0, owner, one.float()) for one in (right, scored))  # type: ignore[return-value]
        return self._contact_counts(outputs, batch)

    @staticmethod
    def _contact_counts(outputs: Tensor, batch: TapeBatch) -> tuple[Tensor, Tensor]:
        lengths = (batch.pack.cu_seqlens.diff() - 2).tolist()
        sizes = [length * length for length in lengths]
        logits = (outputs[:, 1] - outputs[:, 0]).detach().float().cpu().split(sizes)
        truth = batch.targets.cpu().split(sizes)
        found = [
            precision_counts(one.reshape(n, n).numpy(), other.reshape(n, n).numpy(), 5)
            for one, other, n in zip(logits, truth, lengths, strict=True)
        ]
        right, chosen = zip(*found, strict=True)
        device = outputs.device
        return torch.tensor(right, device=device), torch.tensor(chosen, device=device)

    def score_of(self, first: Any, second: Any) -> Any:
        """The task's metric as an `Interval`, from the two numbers of each protein."""
        return (spearman_score if self.spec.kind == VALUE else ratio_score)(first, second)

    def training_step(self, batch: TapeBatch, batch_idx: int) -> Tensor:
        """One step; stops with a clear error if the loss is not finite."""
        loss = self.loss_of(self(batch), batch)
        bad = not bool(torch.isfinite(loss))
        if self.trainer.strategy.reduce_boolean_decision(bad, all=False):
            raise NonFiniteLossError(
                f"The loss became {loss.item()} at step {self.trainer.global_step}. Cures: a lower "
                "optimizer.lr, more warm-up, or trainer.precision=32-true."
            )
        with torch.no_grad():
            self.tokens_seen += batch.pack.num_tokens * self.trainer.world_size  # type: ignore[operator]
        values = {"train/loss": loss.detach(), "train/tokens": self.tokens_seen.float()}  # type: ignore[operator]
        self.log_dict(values, prog_bar=True, batch_size=batch.pack.num_sequences)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate."""
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: TapeBatch, batch_idx: int) -> None:
        """Accumulate the score and the loss."""
        outputs = self(batch)
        ids, count = batch.pack.sequence_ids, batch.pack.num_sequences
        self.val_scores.update(ids, *self.counts_of(outputs, batch))
        loss = self.loss_of(outputs, batch).expand(count)
        self.val_losses.update(ids, loss, torch.ones_like(loss))

    def on_validation_epoch_end(self) -> None:
        """Log the split's loss (mean of the batches, weighted by proteins) and its score."""
        losses, _ = self.val_losses.compute()
        score = self.score_of(*self.val_scores.compute())
        self.log_dict({"val/loss": losses.mean(), "val/score": score.value}, prog_bar=True)
        self.val_losses.reset()
        self.val_scores.reset()

    def test_step(
        self, batch: TapeBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> tuple[Tensor, Tensor]:
        """The two numbers of each protein, for the report."""
        return self.counts_of(self(batch), batch)

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule from the recipe."""
        return self.optimizer_recipe.build(self, self.trainer.estimated_stepping_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds the network, so that a checkpoint file stands alone."""
        hparams: Any = {"architecture": self.model.architecture, "hparams": self.model.hparams}
        checkpoint["lcframework_model"] = hparams
