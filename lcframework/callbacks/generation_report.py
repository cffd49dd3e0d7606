"""Scores of generated answers: kept while they are made, a table per task, a picture."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from lcframework.callbacks.answer_store import AnswerStore
from lcframework.data.generation import GenerationItem
from lcframework.errors import DataError
from lcframework.files import save_figure, write_csv
from lcframework.scoring.suites import score_answer
from lcframework.scoring.task_table import average_rows, bucket_rows, task_table

log = logging.getLogger(__name__)
ANSWERS, TABLE = "answers", "tasks"
ITEM_COLUMNS = (
    "key",
    "task",
    "document",
    "score",
    "prompt_tokens",
    "new_tokens",
    "truncated",
    "not_run",
    "digest",
)
Rows = list[dict[str, Any]]


class GenerationReport(Callback):
    """Writes `answers/rank*.jsonl` as answers are made and, under `figures/`, the table of tasks as
    CSV and PNG and the scores of all items. Started again in the same folder, the test goes on:
    answered items are passed over.

    Works with every task whose `test_step` returns `{"answer": GeneratedAnswer | None}` and that
    has `settings()` and `skip`, on any number of ranks that share the folder.

    Args:
        folder: the run directory.
        buckets: also a table by LongBench-E's length buckets.

    Attributes:
        results: for `results.json`: `test/TASK` in percent with intervals over documents, for
            LongBench the averages; the tables `tasks`, `averages`, `length_buckets`.
        rows: one per answer, with its score, after the test.

    Raises:
        RunDirError: the folder holds answers made with other settings or of other data.
    """

    def __init__(self, folder: str | Path, buckets: bool = False) -> None:
        self.folder, self.buckets = Path(folder), buckets
        self.results: dict[str, Any] = {}
        self.rows: Rows = []
        self._items: dict[str, GenerationItem] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self._store = AnswerStore(self.folder / ANSWERS)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find what is answered already."""
        module: Any = pl_module
        self._items = {item.key: item for item in trainer.datamodule.items}  # type: ignore[attr-defined]
        self._store = AnswerStore(self.folder / ANSWERS, trainer.global_rank)
        if trainer.is_global_zero:
            self._store.claim(module.settings())
        trainer.strategy.barrier("answers claimed")
        digests = {key: item.digest for key, item in self._items.items()}
        self._answers = self._store.read(digests)
        # Nobody appends before everybody has read: what a rank takes for done is then the same.
        trainer.strategy.barrier("answers read")
        module.skip = frozenset(self._answers)
        if self._answers:
            log.info("%d of %d answers are there already", len(self._answers), len(self._items))

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: GenerationItem,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one answer."""
        found = outputs["answer"]
        if found is None or batch.key in self._answers:
            return
        row = {
            "key": batch.key,
            "task": batch.task,
            "answer": found.text,
            "not_run": found.not_run,
            "prompt_tokens": found.prompt_tokens,
            "truncated": found.truncated,
            "new_tokens": found.new_tokens,
            "seconds": found.seconds,
            "digest": batch.digest,
            **found.more,
        }
        self._store.append(row)
        self._answers[batch.key] = row

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score everything once, from all ranks' answers; log, keep and draw it."""
        answers = self._answers
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, answers)
            answers = {key: row for part in gathered for key, row in part.items()}
        if not answers:
            raise DataError("The test had no item: nothing can be scored.")
        rows = self.rows = [
            self._scored(item, answers[key]) for key, item in self._items.items() if key in answers
        ]
        counts: dict[str, int] = {}
        for item in self._items.values():
            counts[item.task] = counts.get(item.task, 0) + 1
        table = task_table(rows, counts)
        self.results = _results(rows, table, counts, self.buckets)
        self.extend(trainer, rows)
        values = {name: one["value"] for name, one in self.results["metrics"].items()}
        pl_module.log_dict(values, sync_dist=True)  # the same on every rank
        if trainer.is_global_zero:
            write_csv(self.folder / "figures" / f"{TABLE}.csv", table)
            items = [self.item_row(row) for row in rows]
            write_csv(self.folder / "figures" / "items.csv", items)
            save_figure(draw_tasks(table), self.folder / "figures" / f"{TABLE}.png")
            _show(table)

    def extend(self, trainer: pl.Trainer, rows: Rows) -> None:
        """For reports that add to `results` and write more; called with every scored row, on all
        ranks, before anything is logged or written."""

    def item_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """What `figures/items.csv` says of a scored row."""
        return {name: row[name] for name in ITEM_COLUMNS}

    def _scored(self, item: GenerationItem, row: dict[str, Any]) -> dict[str, Any]:
        text = row["answer"]
        score = None
        if text is not None:
            score = score_answer(item.suite, item.task, text, item.references, item.all_classes)
        about = {"suite": item.suite, "document": item.document, "length": item.length}
        return {**row, **about, "score": score}


def _results(rows: Rows, table: Rows, counts: dict[str, int], buckets: bool) -> dict[str, Any]:
    metrics = {
        f"test/{row['task'].replace(' ', '_')}": {
            "value": row["score"], "low": row["low"], "high": row["high"], "n": row["n"]
        }
        for row in table
        if row["score"] is not None
    }  # fmt: skip
    tables = {TABLE: table}
    if rows[0]["suite"] == "longbench":
        tables["averages"] = average_rows(table)
        for row in tables["averages"]:
            name = f"test/average/{row['average'].replace(' ', '_')}"
            metrics[name] = {"value": row["score"], "low": None, "high": None, "n": row["tasks"]}
        if buckets:
            tables["length_buckets"] = bucket_rows(rows, counts)
    return {"metrics": metrics, "tables": tables}


def draw_tasks(table: Rows) -> Figure:
    """A bar per task with its interval; tasks without a scored item have none."""
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(table)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(table):
        if row["score"] is None:
            continue
        axes.barh(place, row["score"], color="C0", alpha=0.6)
        axes.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1.2)
    labels = [
        f"{row['task']}\nn={row['n']}" + (f", {row['not_run']} not run" if row["not_run"] else "")
        for row in table
    ]
    axes.set_yticks(range(len(table)), labels, fontsize=7)
    axes.set_ylim(len(table) - 0.4, -0.6)  # the first task on top, one without a bar too
    axes.set(xlim=(0, 100), xlabel="score (%), line: 95% interval over documents")
    return figure


def _show(table: Rows) -> None:
    for row in table:
        missed = f", {row['not_run']} not run" if row["not_run"] else ""
        if row["score"] is None:
            log.info("%-24s no item was run%s", row["task"], missed)
            continue
        log.info(
            "%-24s %6.2f  (95%% interval %.2f to %.2f, n=%d%s)",
            row["task"], row["score"], row["low"], row["high"], row["n"], missed,
        )  # fmt: skip
