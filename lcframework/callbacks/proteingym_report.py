"""A test on ProteinGym: the official table beside baselines and published models."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.table import Table

from lcframework.callbacks.proteingym_figure import proteingym_figure
from lcframework.callbacks.proteingym_table import (
    Rows,
    ScoredAssay,
    assay_rows,
    main_metric,
    result_metrics,
    score_assay,
    summary_rows,
    with_published,
)
from lcframework.data.proteingym.folder import TargetAssays
from lcframework.data.proteingym.published import Published
from lcframework.errors import ConfigError, DataError
from lcframework.files import save_figure, write_csv, write_json
from lcframework.scoring.proteingym.aggregate import RESAMPLES

log = logging.getLogger(__name__)
UNDEFINED = "undefined"
WIDTH = 170


class ProteinGymReport(Callback):
    """Scores a test of `VariantEffectTask` and writes tables and a picture to `folder/figures`.

    Args:
        folder: the run directory.
        resamples: of the bootstrap over proteins.
        seed: of its draws.

    Attributes:
        results: `{"metrics": {"proteingym/spearman", ...}, "tables": {"proteingym_summary",
            "proteingym_assays"}}` after a test.
    """

    def __init__(self, folder: str | Path, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if resamples < 2:
            raise ConfigError(f"callbacks.proteingym.resamples={resamples}: at least 2 are needed.")
        self.folder = Path(folder)
        self.resamples = resamples
        self.seed = seed
        self.results: dict[str, Any] = {}
        self._scored: list[ScoredAssay] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start anew."""
        self.results, self._scored = {}, []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: TargetAssays,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score one target's assays."""
        name = model_name(pl_module)
        for assay in batch.assays:
            one = score_assay(assay, outputs[assay.info.dms_id], name)
            metric = main_metric([one])
            log.info("%s: %s %.3f", one.dms_id, metric, one.methods[name][metric])
            self._scored.append(one)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather all ranks' assays, aggregate once, write and print."""
        scored = gathered(self._scored, trainer.world_size)
        datamodule: Any = getattr(trainer, "datamodule", None)
        published: Published = datamodule.published() if datamodule is not None else {}
        with_published(scored, published)
        name = model_name(pl_module)
        tables = {
            "proteingym_summary": summary_rows(scored, self.resamples, self.seed),
            "proteingym_assays": assay_rows(scored),
            "proteingym_setting": [_setting(pl_module)],
        }
        metrics = result_metrics(scored, name, self.resamples, self.seed)
        self.results = {"metrics": metrics, "tables": tables}
        if trainer.is_global_zero:
            listed = datamodule.folder.listed if datamodule is not None else len(scored)
            note = f"{len(scored)} of {listed} listed assays"
            write_report(tables, scored, name, note, self.folder / "figures")
            show_summary(tables["proteingym_summary"], note)


def _setting(pl_module: Any) -> dict[str, Any]:
    """How the scores were made, and of which network."""
    model = pl_module.model
    hparams = getattr(model, "hparams", {})
    return {**getattr(pl_module, "options", {}), "name": model_name(pl_module), **hparams}


def model_name(pl_module: Any) -> str:
    """The network's name in the tables, such as "lcplm 1.05M"."""
    model = pl_module.model
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{getattr(model, 'architecture', type(model).__name__)} {count / 1e6:.2f}M"


def gathered(scored: Sequence[ScoredAssay], world_size: int) -> list[ScoredAssay]:
    """All ranks' assays by name, each once: samplers may repeat some.

    Raises:
        DataError: there are none.
    """
    parts: list[Any] = [list(scored)]
    if world_size > 1:
        parts = [None] * world_size
        torch.distributed.all_gather_object(parts, list(scored))
    by_name = {one.dms_id: one for part in parts for one in part}
    if not by_name:
        raise DataError("No assay was scored: the test had no batches.")
    return [by_name[name] for name in sorted(by_name)]


def write_report(
    tables: dict[str, Rows], scored: Sequence[ScoredAssay], model: str, note: str, folder: Path
) -> None:
    """Write `proteingym_summary` and `proteingym_assays` (CSV, JSON) and `proteingym.png`."""
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", rows, missing=UNDEFINED)
        write_json(folder / f"{name}.json", rows)
    title = f"ProteinGym, zero-shot: {model} ({note})"
    save_figure(proteingym_figure(scored, model, title), folder / "proteingym.png")
    log.info("Tables and picture: %s", folder)


def show_summary(rows: Rows, note: str) -> None:
    """Print the summary, the best method first."""
    title = f"ProteinGym, official average over {note}; +- is the standard error of the average"
    table = Table(title=title)
    columns = [key for key in rows[0] if key not in ("standard_error", "method")]
    table.add_column("method", no_wrap=True)
    label = {"difference_standard_error": "+- to best", "OrganismalFitness": "Organismal"}
    for name in columns:
        table.add_column(label.get(name, name), justify="right", no_wrap=True)
    main = "spearman" if "spearman" in rows[0] else "auc"
    for row in sorted(rows, key=lambda one: -(one[main] or -2.0)):
        cells = {key: "-" if value is None else str(value) for key, value in row.items()}
        if row["standard_error"] is not None:
            cells[main] += f" +- {row['standard_error']:.3f}"
        table.add_row(row["method"], *(cells[name] for name in columns))
    console = Console()
    Console(width=None if console.is_terminal else WIDTH).print(table)
