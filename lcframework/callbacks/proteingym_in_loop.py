"""ProteinGym while a model trains: every N steps and at the end, without touching the training.

Random generators, modes and gradients are as before afterwards, so the loss trace is that of the
same run without this callback.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lcframework.callbacks.exact_resume import capture_random_state, restore_random_state
from lcframework.callbacks.length_report import SHARDED
from lcframework.callbacks.proteingym_report import gathered, model_name, write_report
from lcframework.callbacks.proteingym_table import (
    Rows,
    ScoredAssay,
    assay_rows,
    result_metrics,
    score_assay,
    summary_rows,
    with_published,
)
from lcframework.data.proteingym.datamodule import ProteinGymDataModule
from lcframework.data.proteingym.folder import TargetAssays
from lcframework.errors import ConfigError
from lcframework.files import write_csv
from lcframework.scoring.proteingym.aggregate import RESAMPLES
from lcframework.tasks.variant_effects.inference import MAX_TOKENS, Inference
from lcframework.tasks.variant_effects.strategies import MASKED, check_strategy
from lcframework.tasks.variant_effects.task import score_target

log = logging.getLogger(__name__)


class ProteinGymInLoop(Callback):
    """Scores a fixed set of assays while a masked language model trains.

    Targets are shared out among the ranks. Each time, the averages go to the loggers and to
    `figures/proteingym_steps.csv`; at the end the tables and the picture of `ProteinGymReport` are
    written too. Works with any task that keeps its network as `model`.

    Args:
        folder: the run directory.
        path: folder in ProteinGym's format.
        every_n_steps: optimizer steps between two looks; None: only at the end of training.
        assays: DMS ids; None for all that are there.
        max_variants: of an assay, a fixed random choice; None for all.
        bad_mutants: "refuse" or "drop".
        strategy: see `tasks.variant_effects.strategies`.
        window: tokens of ProteinGym's window; None: whole proteins.
        max_tokens: of a pack.
        resamples: of the bootstrap over proteins.

    Attributes:
        results: `{"metrics", "tables"}` of the last look, and `proteingym_steps` of all.

    Raises:
        ConfigError: a setting is out of range or without effect.
    """

    def __init__(
        self,
        folder: str | Path,
        path: str | Path | None,
        every_n_steps: int | None = None,
        assays: Sequence[str] | None = None,
        max_variants: int | None = None,
        bad_mutants: str = "refuse",
        strategy: str = MASKED,
        window: int | None = None,
        max_tokens: int = MAX_TOKENS,
        resamples: int = RESAMPLES,
    ) -> None:
        if path is None:
            raise ConfigError(
                "ProteinGym's folder is not given: add callbacks.proteingym.path=DIR, the folder "
                "that holds DMS_substitutions.csv and the assays' CSV files."
            )
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"callbacks.proteingym.every_n_steps={every_n_steps}: at least 1.")
        check_strategy(strategy, window)
        self.folder = Path(folder)
        self.data = ProteinGymDataModule(path, None, assays, bad_mutants, max_variants)
        self.every_n_steps = every_n_steps
        self.options: dict[str, Any] = {"strategy": strategy, "window": window}
        self.max_tokens = max_tokens
        self.resamples = resamples
        self.steps: Rows = []
        self.results: dict[str, Any] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the assays before the first step, so that a bad file costs no training.

        Raises:
            ConfigError: the strategy shards the weights.
            DataError: a file is bad.
        """
        if stage != "fit":
            return
        name = type(trainer.strategy).__name__
        if name in SHARDED:
            raise ConfigError(
                f"{name} shards the network, and ranks with unequal numbers of proteins would wait "
                "for each other for ever. Leave out callbacks.proteingym and score the run's "
                "checkpoints with experiment=lcplm/proteingym."
            )
        self.data.setup("test")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look, if it is time."""
        step = trainer.global_step
        due = self.every_n_steps is not None and step and step % self.every_n_steps == 0
        if due and not self._seen(step):
            self._look(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the trained network, and write the tables and the picture."""
        scored = self._look(trainer, pl_module, last=True)
        if trainer.is_global_zero:
            note = f"{len(scored)} of {self.data.folder.listed} listed assays, step "
            note += f"{trainer.global_step:,}"
            tables = {
                name: rows
                for name, rows in self.results["tables"].items()
                if name != "proteingym_steps"
            }
            figures = self.folder / "figures"
            write_report(tables, scored, model_name(pl_module), note, figures)

    def _seen(self, step: int) -> bool:
        return bool(self.steps) and self.steps[-1]["step"] == step

    def _look(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, last: bool = False
    ) -> list[ScoredAssay]:
        before = capture_random_state()
        try:
            mine = self._targets()[trainer.global_rank :: trainer.world_size]
            scored = gathered(self._score(trainer, pl_module, mine), trainer.world_size)
        finally:
            restore_random_state(before)
        name = model_name(pl_module)
        metrics = result_metrics(scored, name, self.resamples, 0)
        values = {key: one["value"] for key, one in metrics.items()}
        step = trainer.global_step
        if not self._seen(step):
            self.steps.append({"step": step, **values})
            self._log(trainer, {key: one for key, one in values.items() if one is not None})
        tables = {"proteingym_steps": list(self.steps)}
        if last:
            with_published(scored, self.data.published())
            tables["proteingym_summary"] = summary_rows(scored, self.resamples, 0)
            tables["proteingym_assays"] = assay_rows(scored)
        self.results = {"metrics": metrics, "tables": tables}
        if hasattr(pl_module, "forget_step_time"):
            pl_module.forget_step_time()  # type: ignore[operator]
        return scored

    def _targets(self) -> list[TargetAssays]:
        return list(self.data.test_dataloader())

    def _score(
        self, trainer: pl.Trainer, pl_module: Any, targets: Sequence[TargetAssays]
    ) -> list[ScoredAssay]:
        precision = trainer.strategy.precision_plugin.forward_context
        inference = Inference(pl_module.model, self.max_tokens, precision)
        name, found = model_name(pl_module), []
        for target in targets:
            scores = score_target(inference, target, **self.options)
            found += [score_assay(one, scores[one.info.dms_id], name) for one in target.assays]
        return found

    def _log(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        for logger in trainer.loggers:
            # The step that has just been done, as Lightning counts it for training scalars.
            logger.log_metrics(values, step=trainer.global_step - 1)
        if trainer.is_global_zero:
            write_csv(self.folder / "figures" / "proteingym_steps.csv", self.steps, "undefined")
            shown = ", ".join(f"{key.partition('/')[2]} {one:.3f}" for key, one in values.items())
            log.info("ProteinGym at step %s: %s", f"{trainer.global_step:,}", shown)

    def state_dict(self) -> dict[str, Any]:
        """The looks so far, so that a resumed run keeps them."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the looks of the run being resumed."""
        self.steps = list(state_dict["steps"])
