"""A test of a downstream task: its metric with an interval, beside baselines of the sequence."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lcframework.callbacks.logged_media import log_picture, log_table
from lcframework.callbacks.proteingym_report import model_name
from lcframework.callbacks.tape_table import result_metrics, table_rows, write_table
from lcframework.data.tape.batch import TapeBatch
from lcframework.data.tape.datamodule import TRAIN, VALID
from lcframework.errors import ConfigError
from lcframework.scoring.intervals import Interval
from lcframework.scoring.tape.metrics import PerProtein
from lcframework.tasks.tape.linear_probe import baselines

log = logging.getLogger(__name__)


class TapeReport(Callback):
    """Scores a test of `TapeTask` and writes `figures/tape.csv`, `.json` and `.png`.

    Args:
        folder: the run directory.
        with_baselines: fit linear probes on windows or words of the sequences, on rank 0.

    Attributes:
        results: `{"metrics": {"test/<metric>", ...}, "tables": {"tape", "model"}}` after a test.
    """

    def __init__(self, folder: str | Path, with_baselines: bool = True) -> None:
        self.folder = Path(folder)
        self.with_baselines = with_baselines
        self.results: dict[str, Any] = {}
        self._metrics: list[PerProtein] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        datamodule: Any = getattr(trainer, "datamodule", None)
        if not hasattr(datamodule, "test_splits"):
            raise ConfigError("callbacks.report scores downstream tasks: choose data=tape.")
        splits = datamodule.test_splits()
        self._metrics = [PerProtein().to(pl_module.device) for _ in splits]
        self.results = {}

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: TapeBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one batch."""
        self._metrics[dataloader_idx].update(batch.pack.sequence_ids, *outputs)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Score all proteins of all ranks once, add the baselines, write."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        name = f"{model_name(pl_module)}, {'frozen' if pl_module.frozen else 'fine-tuned'}"
        own: dict[str, Interval] = {
            split: pl_module.score_of(*metric.compute())
            for split, metric in zip(data.test_splits(), self._metrics, strict=True)
        }
        scores: dict[str, Any] = {name: own}
        if self.with_baselines and trainer.is_global_zero:
            tests = {split: data.proteins(split) for split in data.test_splits()}
            scores |= baselines(data.spec, data.proteins(TRAIN), data.proteins(VALID), tests)
        rows = table_rows(data.spec, scores, data.note)
        self.results = {
            "metrics": result_metrics("test", data.spec, own),
            "tables": {"tape": rows, "model": [{"name": name, **pl_module.model.hparams}]},
        }
        if trainer.is_global_zero:
            write_table(rows, self.folder / "figures", "tape")
            log_table(trainer, "test/tables/tape", rows, trainer.global_step)
            picture = self.folder / "figures" / "tape.png"
            log_picture(trainer, "test/picture", picture, trainer.global_step)
            for row in rows:
                log.info("%s %s: %s %s", row["test"], row["metric"], row["value"], row["method"])
            log.info("%s", data.note)
