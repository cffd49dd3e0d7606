"""Reports of Focused Learning's data sets: every measure of theirs, in the test and in the loop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lcframework.callbacks.generation_report import GenerationReport
from lcframework.data.focused.item import FocusedItem
from lcframework.data.generation import GenerationItem
from lcframework.errors import ConfigError
from lcframework.files import write_csv
from lcframework.scoring.focused import Answered, measure_table, measures
from lcframework.scoring.focused_metric import AnswerMetric
from lcframework.tasks.focused_likelihood import option_losses
from lcframework.tasks.generate import GeneratedAnswer

NOT_WANTED = "max_written"
"""Why an item has no answer where only its likelihood is measured."""


def answered(item: FocusedItem, row: dict[str, Any]) -> Answered:
    """An item with what is kept of its answer: `answer`, `not_run`, `new_tokens`, and where they
    were measured `gold_nats`, `letter_nats`, `option_nats`."""
    return Answered(
        suite=item.suite,
        prediction=row["answer"],
        references=item.references,
        asked=row["not_run"] != NOT_WANTED,
        types=item.types,
        evidence=item.answer_evidence,
        predicted_evidence=item.kept_units,
        gold_option=item.gold_option,
        letter_nats=row.get("letter_nats"),
        option_nats=row.get("option_nats"),
        gold_nats=row.get("gold_nats"),
        new_tokens=row["new_tokens"],
    )


class FocusedReport(GenerationReport):
    """`GenerationReport` with every measure of `scoring.focused`, for the items of a
    `FocusedDataModule` and tasks like `FocusedGeneration`. Of multiple-choice questions the
    likelihoods of the options are measured, too.

    Args:
        folder: the run directory.

    Attributes:
        results: also `test/TASK/MEASURE` with intervals over documents, the table `measures`
            (`figures/measures.csv`), and `retrieval/...`, the test's evidence recall.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any,
        batch: GenerationItem, batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Keep one answer, with what the options cost."""
        found: GeneratedAnswer | None = outputs["answer"]
        if found is not None and isinstance(batch, FocusedItem) and batch.options:
            module: Any = pl_module
            found = replace(found, more=found.more | option_losses(module, batch))
        super().on_test_batch_end(trainer, pl_module, {"answer": found}, batch, batch_idx)

    def _scored(self, item: GenerationItem, row: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(item, FocusedItem)
        more = {"measures": measures(answered(item, row)), "prompt_digest": item.prompt_digest}
        return {**super()._scored(item, row), **more}

    def item_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """As the base's, with the measures."""
        names = dict.fromkeys(name for one in self.rows for name in one["measures"])
        found = super().item_row(row) | {"prompt_digest": row["prompt_digest"]}
        return found | {name: row["measures"].get(name) for name in names if name not in found}

    def extend(self, trainer: pl.Trainer, rows: list[dict[str, Any]]) -> None:
        """Add the measures to the results."""
        table = measure_table(rows)
        self.results["tables"]["measures"] = table
        metrics = self.results["metrics"]
        for row in table:
            name = f"test/{row['task'].replace(' ', '_')}/{row['measure']}"
            metrics[name] = {key: row[key] for key in ("value", "low", "high", "n")}
        counts = getattr(trainer.datamodule, "counts", {}).get("test", {})  # type: ignore[attr-defined]
        for key, value in counts.items():
            if key.startswith("recall@"):
                n = counts["with_evidence"]
                metrics[f"retrieval/{key}"] = {"value": value, "low": None, "high": None, "n": n}
        if trainer.is_global_zero:
            write_csv(self.folder / "figures" / "measures.csv", table)


class AnswersInLoop(Callback):
    """Answers validation questions while a model is trained and logs its data set's measures as
    `val/MEASURE`, means over the questions of all ranks.

    Args:
        max_items: questions of a validation, over all ranks; None: all of them. Writing an answer
            takes far longer than a training sequence of the same length.

    Raises:
        ConfigError: fewer than one question.
    """

    def __init__(self, max_items: int | None = 16) -> None:
        if max_items is not None and max_items < 1:
            raise ConfigError(
                f"callbacks.in_loop.max_items={max_items}: give 1 or more, null for all, or leave "
                "the callback out (~callbacks.in_loop)."
            )
        self.max_items = max_items
        self._metric: AnswerMetric | None = None
        self._left = 0.0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        suite = trainer.datamodule.suite  # type: ignore[attr-defined]
        self._metric = AnswerMetric(suite).to(pl_module.device)
        whole, rank = trainer.world_size, trainer.global_rank
        self._left = float("inf")
        if self.max_items is not None:
            self._left = self.max_items // whole + (rank < self.max_items % whole)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Answer what is left to answer."""
        module: Any = pl_module
        for item in batch.items:
            if self._left < 1 or self._metric is None:
                return
            self._left -= 1
            answer = module(item)
            row = {"answer": answer.text, "not_run": answer.not_run,
                   "new_tokens": answer.new_tokens}  # fmt: skip
            if item.options:
                row |= option_losses(module, item)
            self._metric.update(answered(item, row))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the means; every rank has the same."""
        if self._metric is None:
            return
        values = {f"val/{name}": value for name, value in self._metric.compute().items()}
        pl_module.log_dict(values, sync_dist=True)
        self._metric = None
