"""Focused Learning (Wu et al., arXiv 2411.05928): answers are learnt from the whole document while
the model's state is drawn towards the one it has when the distractors are gone.

L = L_CLM + lambda L_Contra, see `tasks.focused_step` and `ops.info_nce`.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from lcframework.data.focused.item import FocusedItem
from lcframework.data.focused.pools import FocusedBatch
from lcframework.errors import CheckpointError, ConfigError, NonFiniteLossError
from lcframework.models.focused.layout import Passes, check_packing
from lcframework.models.focused.lora import FOCUS, LoRA, base_identity, save_adapter
from lcframework.models.focused.network import SCALE_INIT, TwoViewNetwork
from lcframework.models.focused.views import focused_view, original_view
from lcframework.ops.info_nce import MAX_SCALE
from lcframework.tasks.focused_generation import FocusedGeneration
from lcframework.tasks.focused_pool import (
    NoNegativesError,
    Pair,
    PairQueue,
    Weights,
    contrastive,
)
from lcframework.tasks.focused_step import STEPS, StepLosses, cached_step, direct_step
from lcframework.tasks.optimizers import WarmupCosineAdamW


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def _terms(losses: StepLosses) -> tuple[Tensor | None, ...]:
    return losses.original, losses.focused, losses.contrast, losses.consistency


class FocusedQATask(FocusedGeneration):
    """Trains a causal language model on pairs of views, and tests it as `FocusedGeneration` does.

    The step is optimised by hand: it clips, accumulates over the pool and moves the schedule
    itself, so `trainer.gradient_clip_val` must be null and `accumulate_grad_batches` 1.

    Args:
        model: a causal language model and its tokenizer; changed in place.
        optimizer: recipe for optimizer and schedule.
        lora: adapters to train; None: the whole model.
        weights: of the loss's terms; None: answer loss and contrastive loss, 1 each.
        step: see `focused_step.STEPS`.
        queue_size: pairs of earlier steps that step "queue" holds.
        pass_tokens: so many tokens go through the model together in training, padding included;
            None: one sequence at a time.
        packing: pack the sequences of a pass into one row instead of padding them.
        pooling: see `TwoViewNetwork`; "special_token" puts `end_token` behind every prompt, a new
            "<focus>" if none is named, and trains its embedding.
        projection: see `TwoViewNetwork`.
        scale_init: see `TwoViewNetwork`.
        clip: largest norm of the gradient; None: no clipping.
        gradient_checkpointing: compute each layer's activations again in the backward pass.
        **settings: of `FocusedGeneration`.

    Logged in training: `train/loss` (answer loss in nats per token, or the first other term
    where it has no weight), `train/contrast`, `train/consistency`, `train/focused_loss`,
    `train/scale` (inverse temperature), `train/negatives`, `train/grad_norm` (before clipping),
    `train/lr`, `train/tokens` (answer tokens so far). In validation `val/loss` and, with contrast,
    `val/contrast`.

    Raises:
        ConfigError: settings that the model cannot follow.
    """

    def __init__(
        self, model: tuple[Any, Any], optimizer: WarmupCosineAdamW | None = None,
        lora: LoRA | None = None, weights: Weights | None = None, step: str = "cached",
        queue_size: int = 256, pass_tokens: int | None = None, packing: bool = False,
        pooling: str = "last_prompt", projection: int | None = None,
        scale_init: float = SCALE_INIT, clip: float | None = 1.0,
        gradient_checkpointing: bool = False, **settings: Any,
    ) -> None:  # fmt: skip
        self._base = base_identity(*model)
        self.weights = weights or Weights()
        if pooling == "special_token":
            settings["end_token"] = settings.get("end_token") or FOCUS
        super().__init__(model, **settings)
        self.automatic_optimization = False
        self.strict_loading = False  # a checkpoint holds what is trained
        if step not in STEPS:
            raise ConfigError(f"task.step={step!r} is unknown: choose one of {STEPS}.")
        self.optimizer_recipe = optimizer or WarmupCosineAdamW(lr=2e-4)
        self.step, self.clip = step, clip
        self.train_passes = Passes(pass_tokens, packing)
        self.queue = PairQueue(queue_size) if step == "queue" else None
        self._seed: int | None = None
        self._adapted: list[Any] = []  # in a list: PEFT's wrapper is no second owner of the weights
        if lora is None:
            self.model.requires_grad_(True)
        else:
            self._adapted.append(lora.attach(self.model, self._new_rows()))
        if gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
            self.model.enable_input_require_grads()
        if packing:
            check_packing(self.model, self.view if self.needs_mask() else "mask")
        self.network = TwoViewNetwork(self.model, pooling, projection, scale_init, packing)
        if not self.weights.contrast:
            self.network.log_scale.requires_grad_(False)
            self.network.projection.requires_grad_(False)
        # float64: counts beyond 2^24 tokens would be rounded in float32.
        self.tokens_seen: Tensor
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.float64))
        self.val_loss, self.val_contrast = MeanMetric(), MeanMetric()
        self.val_pools_left_out = 0

    def _new_rows(self) -> list[int]:
        """Tokens whose embeddings are trained beside the adapters."""
        rows = {self.mask_id} if self.new_token else set()
        return sorted(rows | ({self.end_id} if self.end_id is not None else set()))  # type: ignore[arg-type]

    def configure_callbacks(self) -> list[Any]:
        """None; the first hook of a fit, so the place to refuse what Lightning would refuse next.

        Raises:
            ConfigError: the trainer clips or accumulates.
        """
        trainer = self._trainer
        if trainer is None or trainer.state.fn != "fit":
            return []
        given = {
            "gradient_clip_val": (trainer.gradient_clip_val, "null", "task.clip clips"),
            "accumulate_grad_batches": (
                trainer.accumulate_grad_batches, "1", "data.pool_size is the accumulation: the "
                "pairs of a step share their negatives, which accumulated batches do not",
            ),
        }  # fmt: skip
        for name, (value, cure, why) in given.items():
            if value not in (None, 0, 1) or (name == "gradient_clip_val" and value):
                raise ConfigError(
                    f"trainer.{name}={value}: this task optimises by hand. Set trainer.{name}="
                    f"{cure}; {why}."
                )
        return []

    def needs_mask(self) -> bool:
        """Whether the focused view is used at all."""
        weights = self.weights
        trains = weights.contrast > 0 or weights.focused > 0 or weights.consistency > 0
        return trains or self.answer_from == "focused"

    def pair(self, item: FocusedItem) -> Pair:
        """Both views of an item with its answer, truncated alike."""
        encoded = self.tokens(item, item.references[0])
        return Pair(
            original_view(encoded),
            focused_view(encoded, self.view, self.mask_id if self.mask_id is not None else 0),
            _hash(item.question_id),
            _hash(item.document),
            # What retrieval kept may have been cut away: then nothing is left to focus on.
            item.contrast and not encoded.lost,
        )

    def on_fit_start(self) -> None:
        """Training mode; refuse what would be silently wrong.

        Raises:
            ConfigError: float16 mixed precision.
        """
        if self.trainer.precision == "16-mixed":
            raise ConfigError(
                "Focused Learning clips gradients by hand, which trainer.precision=16-mixed "
                "scales: choose bf16-mixed, bf16-true or 32-true."
            )
        self._seed = torch.initial_seed() if self._seed is None else self._seed
        self.network.train()

    def training_step(self, batch: FocusedBatch, batch_idx: int) -> None:
        """One optimizer step over the pool."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        # Dropout is drawn from the step's number: loaders draw from the same stream, and a resumed
        # run begins more of them.
        assert self._seed is not None
        torch.manual_seed((self._seed + 1_000_003 * self.global_step + self.global_rank) % 2**63)
        pairs = [self.pair(item) for item in batch.items]
        losses = self._gradients(pairs)
        self._stop_if_not_finite(losses, batch)
        trained = [p for p in self.parameters() if p.requires_grad and p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        if self.clip is not None:
            self.clip_gradients(
                optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm"
            )
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        self.lr_schedulers().step()  # type: ignore[union-attr]
        with torch.no_grad():
            self.network.log_scale.clamp_(max=math.log(MAX_SCALE))
            self.tokens_seen.add_(losses.answer_tokens)
        self._log(losses, norm, rate, len(batch))

    def _gradients(self, pairs: Sequence[Pair]) -> StepLosses:
        common = (self.network, pairs, self.weights, self.manual_backward, self.train_passes)
        if self.step != "cached":
            return direct_step(*common, gather=self.step != "direct", queue=self.queue)
        wrapped: Any = self.trainer.strategy.model
        options = {"no_sync": wrapped.no_sync} if hasattr(wrapped, "no_sync") else {}
        return cached_step(*common, **options)

    def _log(self, losses: StepLosses, norm: Tensor, rate: float, size: int) -> None:
        shown = next(one for one in _terms(losses) if one is not None)
        self.log("train/loss", shown, prog_bar=True, batch_size=size)
        values = {
            "train/grad_norm": norm,
            "train/lr": rate,
            "train/tokens": self.tokens_seen.float(),
        }
        if losses.focused is not None and losses.original is not None:
            values["train/focused_loss"] = losses.focused
        if losses.consistency is not None:
            values["train/consistency"] = losses.consistency
        if losses.contrast is not None:
            values["train/contrast"] = losses.contrast
            values["train/scale"] = self.network.log_scale.detach().exp()
            values["train/negatives"] = losses.negatives
        self.log_dict(values, batch_size=size)

    def _stop_if_not_finite(self, losses: StepLosses, batch: FocusedBatch) -> None:
        values = [one for one in _terms(losses) if one is not None]
        bad = not all(bool(torch.isfinite(one)) for one in values)
        if not self.trainer.strategy.reduce_boolean_decision(bad, all=False):
            return
        raise NonFiniteLossError(
            f"The loss became {[float(one) for one in values]} at step {self.trainer.global_step} "
            f"on the questions {', '.join(one.key for one in batch.items)}; the last checkpoint is "
            "unharmed. Cures: a lower optimizer.lr, more warm-up, a smaller task.clip, or "
            "trainer.precision=32-true to rule out overflow."
        )

    def validation_step(self, batch: FocusedBatch, batch_idx: int) -> None:
        """Accumulate the answer loss per token and the contrastive loss per pool."""
        pairs = [self.pair(item) for item in batch.items]
        rows, losses = self._embedded(pairs, "original")
        for pair, loss in zip(pairs, losses, strict=True):
            self.val_loss.update(loss / pair.original.answer_tokens, pair.original.answer_tokens)
        if self.weights.contrast and len(pairs) > 1:
            focused, _ = self._embedded(pairs, "focused")
            try:
                value, _ = contrastive(rows, focused, self.network.log_scale, pairs, self.weights)
            except NoNegativesError:  # on every rank alike: all see the same pool
                self.val_pools_left_out += 1
            else:
                self.val_contrast.update(value)

    def _embedded(self, pairs: Sequence[Pair], side: str) -> tuple[Tensor, Tensor]:
        """Embeddings of one side, and the losses of its answers."""
        views = [getattr(pair, side) for pair in pairs]
        found: list[tuple[int, Tensor, Tensor]] = []
        for group in self.train_passes.groups([len(view.ids_N) for view in views]):
            embedding, nll, _ = self.network([views[n] for n in group], answer_loss=True)
            found += zip(group, embedding, nll, strict=True)
        found.sort(key=lambda one: one[0])
        return torch.stack([one[1] for one in found]), torch.stack([one[2] for one in found])

    def on_validation_epoch_end(self) -> None:
        """Log the values of the whole split."""
        self.log("val/loss", self.val_loss.compute(), prog_bar=True)
        self.val_loss.reset()
        if self.val_contrast.update_called:
            self.log("val/contrast", self.val_contrast.compute())
        self.val_contrast.reset()
        if self.val_pools_left_out:
            # Every rank counted the same pools.
            self.log("val/pools_without_negatives", float(self.val_pools_left_out))
        self.val_pools_left_out = 0

    def on_train_end(self) -> None:
        """Write the adapter to `adapter/` in the run directory."""
        trainer: Any = self.trainer
        if self._adapted and trainer.is_global_zero and not trainer.fast_dev_run:
            folder = Path(trainer.default_root_dir) / "adapter"
            end = None if self.end_id is None else self.tokenizer.convert_ids_to_tokens(self.end_id)
            save_adapter(folder, self._adapted[0], self.tokenizer, self._base, self.new_token, end)

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule from the recipe."""
        return self.optimizer_recipe.build(self.network, self.trainer.estimated_stepping_batches)

    def _trained(self) -> dict[str, Tensor]:
        found = {f"network.{name}": p.detach() for name, p in self.network.named_parameters()
                 if p.requires_grad}  # fmt: skip
        return {**found, "tokens_seen": self.tokens_seen}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep trained weights only, and which model they belong to."""
        checkpoint["state_dict"] = self._trained()
        checkpoint["focused_base"], checkpoint["focused_seed"] = self._base, self._seed
        if self.queue is not None:
            checkpoint["focused_queue"] = self.queue.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another base model or of other adapters.

        Raises:
            CheckpointError: what differs.
        """
        said = checkpoint.get("focused_base")
        if said is None or said["fingerprint"] != self._base["fingerprint"]:
            name = "another task" if said is None else f"the base model {said['name']}"
            raise CheckpointError(
                f"The checkpoint was written by {name}, this run has {self._base['name']} with "
                "other weights: give the model that it was trained on, or another ckpt_path."
            )
        found = {name: tuple(one.shape) for name, one in checkpoint["state_dict"].items()}
        wanted = {name: tuple(one.shape) for name, one in self._trained().items()}
        differing = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        if differing:
            raise CheckpointError(
                f"The checkpoint trains other weights than this run ({len(differing)} differ, such "
                f"as {differing[0]}): restore task.lora and task.view, or choose another ckpt_path."
            )
        self._seed = checkpoint.get("focused_seed")
        if self.queue is not None:
            self.queue.load_state_dict(checkpoint.get("focused_queue", {}))
