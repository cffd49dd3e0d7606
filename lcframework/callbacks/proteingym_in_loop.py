"""ProteinGym while a model trains: every N steps and at the end, without touching the training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from lcframework.callbacks.in_loop import InLoop, Metrics
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
from lcframework.errors import ConfigError
from lcframework.scoring.proteingym.aggregate import RESAMPLES
from lcframework.tasks.variant_effects.inference import MAX_TOKENS, Inference
from lcframework.tasks.variant_effects.strategies import MASKED, check_strategy
from lcframework.tasks.variant_effects.task import score_target


class ProteinGymInLoop(InLoop):
    """Scores a fixed set of assays while a masked language model trains.

    Targets are shared out among the ranks. Each look writes and logs the tables and the picture of
    `ProteinGymReport`.

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
        super().__init__("proteingym", folder, every_n_steps, max_tokens)
        check_strategy(strategy, window)
        self.data = ProteinGymDataModule(path, None, assays, bad_mutants, max_variants)
        self.options: dict[str, Any] = {"strategy": strategy, "window": window}
        self.resamples = resamples
        self._scored: list[ScoredAssay] = []

    def prepare(self) -> None:
        """Read the assays.

        Raises:
            DataError: a file is bad.
        """
        self.data.setup("test")

    def look(self, trainer: pl.Trainer, pl_module: Any, inference: Inference) -> Metrics:
        """Score this rank's targets, gather all."""
        mine = list(self.data.test_dataloader())[trainer.global_rank :: trainer.world_size]
        name, found = model_name(pl_module), []
        for target in mine:
            scores = score_target(inference, target, **self.options)
            found += [score_assay(one, scores[one.info.dms_id], name) for one in target.assays]
        self._scored = gathered(found, trainer.world_size)
        return result_metrics(self._scored, name, self.resamples, 0)

    def report(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Rows]:
        """Write the tables and the picture."""
        with_published(self._scored, self.data.published())
        tables = {
            "proteingym_summary": summary_rows(self._scored, self.resamples, 0),
            "proteingym_assays": assay_rows(self._scored),
        }
        if trainer.is_global_zero:
            note = f"{len(self._scored)} of {self.data.folder.listed} listed assays, step "
            note += f"{trainer.global_step:,}"
            figures = self.folder / "figures"
            write_report(tables, self._scored, model_name(pl_module), note, figures)
        return tables
